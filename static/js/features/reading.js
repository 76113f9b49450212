/** What was seen counts as read; what comes in is spoken to those who listen instead of look. */
import {ApiError, post} from '../core/api.js';
import {find, make} from '../core/dom.js';
import {listen, openChannel, state, userName} from '../core/state.js';
import {plainLine} from '../text/markup.js';
import {words} from '../text/words.js';
import {addMessageAction} from '../views/message.js';
import {divideAfter, newestInView} from '../views/timeline.js';
import {attempt} from '../views/toast.js';

const PAUSE = 250;
const SPOKEN_KEPT = 5;

let timer = 0;
const told = new Map();
/* The channel that was marked unread on purpose: it stays so until one leaves it or writes there. */
let leftUnread = null;

addMessageAction({
  name: 'unread', icon: 'inbox', label: words.markUnread, key: 'u', order: 50,
  may: message => message.id && openChannel() && openChannel().joined,
  run: markUnread,
});

async function markUnread({id, channel_id: channelId}) {
  leftUnread = channelId;
  divideAfter(id - 1);
  await attempt(() => post(`/channels/${channelId}/read`, {message_id: id - 1, back: true}));
}

listen('route', () => {
  if (state.channelId === leftUnread) return;
  told.delete(leftUnread);
  leftUnread = null;
});
listen('sent', () => {
  told.delete(leftUnread);
  leftUnread = null;
});

listen('timeline-moved', soon);
addEventListener('focus', soon);
document.addEventListener('visibilitychange', soon);

function soon() {
  clearTimeout(timer);
  timer = setTimeout(markRead, PAUSE);
}

async function markRead() {
  const channel = openChannel();
  const newest = newestInView();
  const looking = !document.hidden && document.hasFocus();
  if (!looking || !channel || !channel.joined || channel.id === leftUnread || newest <= (told.get(channel.id) || channel.read_to)) return;
  told.set(channel.id, newest);
  try {
    await post(`/channels/${channel.id}/read`, {message_id: newest});
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    told.delete(channel.id);
  }
}

listen('news', message => {
  if (message.kind !== 'text' || message.deleted) return;
  const announcer = find('#announcer');
  announcer.append(make('p', {}, words.announce(userName(message.user_id), plainLine(message.text))));
  while (announcer.childElementCount > SPOKEN_KEPT) announcer.firstChild.remove();
});
