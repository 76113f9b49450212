/** What is unread in all channels one wants to hear of, in the panel: a part for each channel, and marking them read. */
import {post} from '../core/api.js';
import {Asking} from '../core/asking.js';
import {icon, label, make} from '../core/dom.js';
import {addressOf, apply, channelName, listen, state} from '../core/state.js';
import {inboxWords} from '../text/inbox-words.js';
import {words} from '../text/words.js';
import {cardList, keepFocus, messageCard, noCards} from '../views/cards.js';
import {openPanel, openPanelName, tieButton} from '../views/panel.js';
import {attempt, toast} from '../views/toast.js';

const NAME = 'unread';
/* As many of each channel as the server gives. */
const SHOWN = 20;
const KINDS = ['public', 'private', 'direct'];

const unread = {messages: [], loaded: false, drawing: false};
const asking = new Asking();
const list = cardList();
const allButton = make('button', {type: 'button', className: 'button small secondary'}, icon('checks', 16), inboxWords.markAllRead);

tieButton('#unread', NAME, open);
allButton.addEventListener('click', markAllRead);
for (const topic of ['mine', 'channel']) listen(topic, follow);
listen('message', onMessage);
listen('snapshot', load);
/* Another person sees nothing of this one's. */
listen('signed-out', () => { unread.messages = []; });

function open() {
  unread.loaded = false;
  show();
  load();
}

async function load() {
  if (openPanelName() !== NAME) return;
  const answer = await attempt(() => asking.ask('/me/unread'));
  if (!answer) return;
  Object.assign(unread, {loaded: true, messages: answer.messages});
  answer.heard.forEach(takeIn);
  drawSoon();
}

function onMessage(message) {
  if (openPanelName() !== NAME) return;
  asking.note(message);
  takeIn(message);
  drawSoon();
}

function takeIn(message) {
  const others = unread.messages.filter(other => other.id !== message.id);
  unread.messages = isUnread(message) ? [...others, message].sort((one, other) => one.id - other.id) : others;
}

function isUnread({id, channel_id: channelId, kind, deleted, user_id: userId}) {
  const channel = state.channels.get(channelId);
  return Boolean(channel) && id > channel.read_to && kind !== 'system' && !deleted && userId !== state.me.id;
}

/* A mark that was put back, or a channel that is heard again, brings what is not known here. */
function follow() {
  if (openPanelName() !== NAME) return;
  const unknown = groups().some(({channel, messages}) => messages.length < Math.min(SHOWN, channel.unread));
  if (unknown) load();
  drawSoon();
}

/* -- drawing */

/* The channels with something unread, in the order of the sidebar, each with its first messages. */
function groups() {
  const heard = [...state.channels.values()].filter(({joined, hidden, notify, unread: count}) => joined && !hidden && notify !== 'none' && count);
  heard.sort((one, other) => other.favourite - one.favourite || KINDS.indexOf(one.kind) - KINDS.indexOf(other.kind)
    || channelName(one).localeCompare(channelName(other)));
  const here = unread.messages.filter(isUnread);
  return heard.map(channel => ({channel, messages: here.filter(message => message.channel_id === channel.id).slice(0, SHOWN)}));
}

/* Events come in bursts; one drawing a frame is enough. */
function drawSoon() {
  if (unread.drawing) return;
  unread.drawing = true;
  requestAnimationFrame(() => {
    unread.drawing = false;
    if (openPanelName() === NAME) show();
  });
}

function show() {
  const all = groups();
  const total = all.reduce((sum, {channel}) => sum + channel.unread, 0);
  keepFocus(list, () => list.replaceChildren(...(all.length ? all.map(drawGroup) : [nothing()])));
  openPanel(NAME, {title: words.unread, count: total || '', buttons: all.length ? [allButton] : [], body: list});
}

function nothing() {
  return unread.loaded ? noCards(inboxWords.noUnread, inboxWords.noUnreadText) : make('p', {className: 'muted'}, inboxWords.loading);
}

function drawGroup({channel, messages}) {
  const name = titleOf(channel);
  const link = make('a', {href: addressOf(channel.id), className: 'ellipsis', dir: 'auto', 'aria-label': inboxWords.unreadIn(name, channel.unread)}, name);
  const head = make('h3', {className: 'card-group-head'}, link, make('span', {className: 'count'}, String(channel.unread)), readButton(channel, name));
  return make('section', {className: 'card-group'}, head, ...messages.map(message => messageCard(message, {place: false})), more(channel, messages));
}

const titleOf = channel => channel.kind === 'direct' ? channelName(channel) : `#${channel.name}`;

function more(channel, messages) {
  const count = channel.unread - messages.length;
  return count > 0 && messages.length ? make('a', {className: 'more-cards', href: addressOf(channel.id)}, inboxWords.moreUnread(count)) : null;
}

function readButton(channel, name) {
  const button = make('button', {type: 'button', className: 'icon-button'}, icon('check', 18));
  label(button, inboxWords.markChannelRead(name));
  button.addEventListener('click', () => markRead([channel], inboxWords.channelRead(name),
    () => post(`/channels/${channel.id}/read`, {message_id: channel.last_message_id})));
  return button;
}

function markAllRead() {
  const channels = [...state.channels.values()].filter(channel => channel.joined && channel.unread);
  return markRead(channels, inboxWords.allRead, () => post('/me/read', {message_id: newestId()}));
}

const newestId = () => Math.max(...[...state.channels.values()].map(channel => channel.last_message_id || 0));

/* -- marking read, with a way back */

async function markRead(channels, text, ask) {
  const done = await attempt(async () => {
    await ask();
    return true;
  });
  if (!done) return;
  for (const channel of channels.filter(isAsItWas)) {
    apply({kind: 'mine', value: {channel_id: channel.id, read_to: channel.last_message_id, unread: 0, mentions: 0}});
  }
  toast(text, {name: 'checks', action: {label: words.undo, run: () => attempt(() => putBack(channels))}});
}

/* What came while the server was asked is not read. */
function isAsItWas({id, last_message_id: last}) {
  const channel = state.channels.get(id);
  return Boolean(channel) && channel.last_message_id === last;
}

function putBack(channels) {
  return Promise.all(channels.map(({id, read_to: readTo}) => post(`/channels/${id}/read`, {message_id: readTo, back: true})));
}
