/** What was seen counts as read; what comes in is spoken to those who listen instead of look. */
import {ApiError, get, post} from '../core/api.js';
import {find, isLookedAt, make} from '../core/dom.js';
import {apply, listen, openChannel, state, tell, userName} from '../core/state.js';
import {plainLine} from '../text/markup.js';
import {words} from '../text/words.js';
import {addMessageAction} from '../views/message.js';
import {divideAfter, newestInView} from '../views/timeline.js';
import {attempt} from '../views/toast.js';

const PAUSE = 250;
const SPOKEN_KEPT = 5;

let timer = 0;
/* Marks the server has not heard of yet, by channel; what failed stays and goes with the next. */
const pending = new Map();
/* The channel that was marked unread on purpose: it stays so until one leaves it or writes there. */
let leftUnread = null;

addMessageAction({
  name: 'unread', icon: 'inbox', label: words.markUnread, key: 'Shift+U', order: 50,
  may: message => message.id && openChannel() && openChannel().joined,
  run: markUnread,
});

async function markUnread({id, channel_id: channelId}) {
  leftUnread = channelId;
  pending.delete(channelId);
  divideAfter(id - 1);
  await attempt(() => post(`/channels/${channelId}/read`, {message_id: id - 1, back: true}));
}

listen('route', () => {
  if (state.channelId !== leftUnread) leftUnread = null;
});
listen('sent', channelId => {
  if (channelId === leftUnread) leftUnread = null;
});

listen('timeline-moved', look);
addEventListener('focus', look);
document.addEventListener('visibilitychange', look);
look();

/* What is in view is read at once here, and a moment later on the server. */
function look() {
  const channel = openChannel();
  const newest = newestInView();
  if (!isLookedAt() || !channel || !channel.joined || channel.id === leftUnread) return;
  if (newest > channel.read_to) noteRead(channel.id, newest);
  if (pending.size && !timer) timer = setTimeout(tellServer, PAUSE);
}

function noteRead(channelId, newest) {
  pending.set(channelId, newest);
  apply({kind: 'mine', value: {channel_id: channelId, read_to: newest, unread: 0, mentions: 0}});
}

/* What was read in the last moment before the page is left counts as well. */
addEventListener('pagehide', () => tellServer({keepalive: true}));

function tellServer(options) {
  timer = 0;
  const marks = [...pending];
  pending.clear();
  for (const [channelId, newest] of marks) tellRead(channelId, newest, options);
}

async function tellRead(channelId, newest, options) {
  try {
    await post(`/channels/${channelId}/read`, {message_id: newest}, options);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (!error.refused && !pending.has(channelId)) pending.set(channelId, newest);
  }
}

/* -- counting anew what was deleted or changed before it was read */

const recounting = new Set();

/* A whole channel hears of a change at once, and must not ask at once. */
listen('recount', channelId => {
  if (recounting.has(channelId)) return;
  recounting.add(channelId);
  setTimeout(recount, Math.random() * PAUSE, channelId);
});

async function recount(channelId) {
  recounting.delete(channelId);
  const {last_message_id: before} = state.channels.get(channelId) || {};
  try {
    takeCounts((await get(`/channels/${channelId}`)).channel, before);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

/* An answer that news or reading has overtaken is none. */
function takeCounts({id, read_to, unread, mentions, last_message_id}, before) {
  const known = state.channels.get(id);
  if (!known || known.read_to > read_to) return;
  if (known.last_message_id > Math.max(last_message_id, before)) return tell('recount', id);
  apply({kind: 'mine', value: {channel_id: id, read_to, unread, mentions, last_message_id}});
}

listen('news', message => {
  if (message.kind !== 'text' || message.deleted) return;
  const announcer = find('#announcer');
  announcer.append(make('p', {}, words.announce(userName(message.user_id), plainLine(message.text))));
  while (announcer.childElementCount > SPOKEN_KEPT) announcer.firstChild.remove();
});
