/** Pinned messages: a mark where they stand, their number in the head, a panel that leads to them. */
import {ApiError, get, put, remove} from '../core/api.js';
import {find, icon, label, make, setSlot} from '../core/dom.js';
import {listen, openChannel, state} from '../core/state.js';
import {laterWords} from '../text/later-words.js';
import {cardList, messageCard, noCards} from '../views/cards.js';
import {addMessageAction, onMessageDrawn} from '../views/message.js';
import {openPanel, openPanelName, tieButton} from '../views/panel.js';
import {attempt} from '../views/toast.js';

const NAME = 'pins';
const pins = {channelId: null, messages: []};
const list = cardList();

addMessageAction({
  name: 'pin', icon: 'pin', label: laterWords.pin, key: 'P', order: 25, may: message => mayPin(message) && !message.pinned,
  run: message => attempt(() => put(`/messages/${message.id}/pin`)),
});
addMessageAction({
  name: 'unpin', icon: 'pin', label: laterWords.unpin, key: 'P', order: 25, may: message => mayPin(message) && message.pinned,
  run: message => attempt(() => remove(`/messages/${message.id}/pin`)),
});

function mayPin(message) {
  const channel = openChannel();
  return Boolean(message.id && message.kind === 'text' && !message.deleted && channel && channel.joined && !channel.archived);
}

onMessageDrawn((article, message) => {
  if (!message.pinned || message.deleted || message.kind !== 'text') return;
  find('.body', article).prepend(make('p', {className: 'pin-mark'}, icon('pin', 13), laterWords.pinned));
});

tieButton('#pins', NAME, show);
for (const topic of ['route', 'snapshot']) listen(topic, load);
listen('message', onMessage);
load();

async function load() {
  const {channelId} = state;
  if (channelId !== pins.channelId) take(channelId, []);
  if (!channelId) return;
  try {
    const {messages} = await get(`/channels/${channelId}/pins`);
    if (channelId === state.channelId) take(channelId, messages);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

function take(channelId, messages) {
  Object.assign(pins, {channelId, messages});
  draw();
}

function onMessage(message) {
  if (message.channel_id !== pins.channelId) return;
  const others = pins.messages.filter(other => other.id !== message.id);
  const pinned = message.pinned && !message.deleted;
  if (!pinned && others.length === pins.messages.length) return;
  take(pins.channelId, (pinned ? [...others, message] : others).sort((one, other) => other.id - one.id));
}

function draw() {
  const button = find('#pins');
  button.hidden = !pins.messages.length;
  setSlot(button, 'pin-count', String(pins.messages.length));
  label(button, laterWords.pinnedMessages(pins.messages.length));
  if (openPanelName() === NAME) show();
}

function show() {
  list.replaceChildren(...pins.messages.map(message => messageCard(message, {place: false})));
  if (!pins.messages.length) list.append(noCards(laterWords.noPins, laterWords.noPinsText));
  openPanel(NAME, {title: laterWords.pinned, count: pins.messages.length, body: list});
}
