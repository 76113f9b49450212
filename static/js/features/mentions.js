/** The messages that name one, newest first, in the panel. */
import {Asking} from '../core/asking.js';
import {make} from '../core/dom.js';
import {isForMe, listen, state} from '../core/state.js';
import {inboxWords} from '../text/inbox-words.js';
import {laterWords} from '../text/later-words.js';
import {words} from '../text/words.js';
import {cardList, keepFocus, messageCard, noCards} from '../views/cards.js';
import {openPanel, openPanelName, tieButton} from '../views/panel.js';
import {attempt} from '../views/toast.js';

const NAME = 'mentions';
const mentions = {messages: [], more: false, loaded: false};
const asking = new Asking();
const list = cardList();

tieButton('#mentions', NAME, open);
listen('message', onMessage);
listen('snapshot', () => fetchPage(''));
/* Another person sees nothing of this one's. */
listen('signed-out', () => { mentions.messages = []; });
listen('mine', () => openPanelName() === NAME && show());
listen('channel', channel => channel.gone && forget(channel.id));

function open() {
  mentions.loaded = false;
  show();
  fetchPage('');
}

function fetchMore() {
  return fetchPage(`?before=${mentions.messages[mentions.messages.length - 1].id}`);
}

async function fetchPage(query) {
  if (openPanelName() !== NAME) return;
  const answer = await attempt(() => asking.ask(`/me/mentions${query}`));
  if (!answer) return;
  Object.assign(mentions, {loaded: true, more: answer.more, messages: [...(query ? mentions.messages : []), ...answer.messages]});
  answer.heard.forEach(takeIn);
  if (openPanelName() === NAME) show();
}

function onMessage(message) {
  if (openPanelName() !== NAME) return;
  asking.note(message);
  if (takeIn(message)) show();
}

/* Whether anything changed: what is older than all that is shown comes with its page. */
function takeIn(message) {
  const {messages, more} = mentions;
  const others = messages.filter(other => other.id !== message.id);
  const oldest = more && messages.length ? messages[messages.length - 1].id : 0;
  const names = isForMe(message) && message.id >= oldest;
  mentions.messages = names ? [...others, message].sort((one, other) => other.id - one.id) : others;
  return names || others.length < messages.length;
}

function forget(channelId) {
  mentions.messages = mentions.messages.filter(message => message.channel_id !== channelId);
  if (openPanelName() === NAME) show();
}

function show() {
  const cards = mentions.messages.map(drawCard);
  const more = mentions.more ? [moreButton()] : [];
  keepFocus(list, () => list.replaceChildren(...(cards.length ? [...cards, ...more] : [nothing()])));
  openPanel(NAME, {title: words.mentions, body: list});
}

function nothing() {
  if (!mentions.loaded) return make('p', {className: 'muted'}, inboxWords.loading);
  return noCards(inboxWords.noMentions, inboxWords.noMentionsText(state.me.username));
}

function drawCard(message) {
  const card = messageCard(message);
  const channel = state.channels.get(message.channel_id);
  card.classList.toggle('new', Boolean(channel) && message.id > channel.read_to);
  return card;
}

function moreButton() {
  const button = make('button', {type: 'button', className: 'button secondary small more-cards'}, laterWords.showMore);
  button.addEventListener('click', fetchMore);
  return button;
}
