/** Draws attention to new messages by a notification, a sound and a shake: once for all tabs of this browser, and not where one is looking. */
import {attentionFor, hasKeyword} from '../core/attention.js';
import {findAll, isLookedAt} from '../core/dom.js';
import {isLeading} from '../core/feed.js';
import {preference} from '../core/preferences.js';
import {isForMe, isNews, listen, state, tell} from '../core/state.js';
import {broadcast, hear, keepForDevice, keptForDevice} from '../core/store.js';
import {onMessageDrawn} from '../views/message.js';
import {messageOf} from '../views/rows.js';
import {toast} from '../views/toast.js';

/* The other tabs have so long (ms) to say that somebody is looking at the message there. */
const GRACE = 150;

/* What may still be raised, by message id: {message, kind}. */
const pending = new Map();
let newest = newestKnown();
let timer = 0;

function newestKnown() {
  return Math.max(0, ...[...state.channels.values()].map(channel => channel.last_message_id || 0));
}

listen('snapshot', () => { newest = newestKnown(); });
listen('message', onMessage);
listen('mine', ({channel_id: channelId, read_to: readTo}) => dropRead(channelId, readTo));
if (navigator.serviceWorker) navigator.serviceWorker.addEventListener('message', ({data}) => { location.hash = data.address; });
hear('attended', id => pending.delete(id));
hear('ring', ring);

/* A keyword marks a message as one's name does. */
onMessageDrawn(mark);
listen('preference', name => {
  if (name === 'keywords') for (const article of findAll('#messages article')) mark(article, messageOf(article));
});

function mark(article, message) {
  const forMe = isForMe(message) || isNews(message) && hasKeyword(message.text, preference('keywords', ''));
  article.classList.toggle('mentions-me', forMe);
}

/* One's own may overtake what others wrote before it, so it says nothing about what is new. */
function onMessage(message) {
  if (message.id <= newest || message.user_id === state.me.id) return;
  newest = message.id;
  const kind = attentionFor(message);
  if (!kind) return;
  if (isLookingAt(message.channel_id)) return broadcast('attended', message.id);
  if (isLeading()) consider(message, kind);
}

const isLookingAt = channelId => isLookedAt() && state.channelId === channelId;

function consider(message, kind) {
  pending.set(message.id, {message, kind});
  clearTimeout(timer);
  timer = setTimeout(raise, GRACE);
}

async function dropRead(channelId, readTo) {
  for (const [id, {message}] of pending) if (message.channel_id === channelId && id <= readTo) pending.delete(id);
  if (loading) (await loading).closeNotification(channelId, readTo);
}

async function raise() {
  const waiting = [...pending.values()];
  pending.clear();
  if (!waiting.length) return;
  const kind = waiting.some(one => one.kind === 'mention') ? 'mention' : 'message';
  broadcast('ring', kind);
  ring(kind);
  const {notificationState, showMessages} = await alerts();
  for (const messages of byChannel(waiting)) showMessages(messages);
  if (kind === 'mention' && document.hidden && notificationState() === 'ask' && !keptForDevice('offered')) offerWhenBack();
}

/* Asked once on a device, when somebody comes back to something that they might have liked to see at once. */
function offerWhenBack() {
  keepForDevice('offered', true);
  document.addEventListener('visibilitychange', async () => {
    const {notifyWords: words} = await import('../text/notify-words.js');
    toast(words.missed, {name: 'bell', action: {label: words.offer, run: () => tell('show-settings', 'notifications')}});
  }, {once: true});
}

function byChannel(waiting) {
  const groups = new Map();
  for (const {message} of waiting) groups.set(message.channel_id, [...(groups.get(message.channel_id) || []), message]);
  return groups.values();
}

let loading = null;

function alerts() {
  loading = loading || import('../views/alerts.js');
  return loading;
}

/* Browsers let only a page make sounds that was touched before, so any tab may ring, but one alone. */
async function ring(kind) {
  if (!preference('sound', true) && !preference('vibrate', true)) return;
  const {ringAlone, ringNow} = await alerts();
  await ringAlone(kind, () => ringNow(kind));
}
