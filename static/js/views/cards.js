/** Messages as cards in the panel: each leads to where it stands. */
import {findAll, icon, make} from '../core/dom.js';
import {addressOf, channelName, state, userName} from '../core/state.js';
import {plainLine} from '../text/markup.js';
import {clockTime, dayKey, fullTime, shortDay} from '../text/measures.js';
import {avatar} from './avatar.js';

const SHOWN = 280;
const BEFORE_HIT = 80;

/** One message as a card; `hits` is what to mark in its text, `place` names its channel. */
export function messageCard(message, {hits = null, place = true} = {}) {
  const user = state.users.get(message.user_id) || {id: message.user_id, username: '?'};
  const head = make('span', {className: 'card-head'}, avatar(user, 20),
    make('b', {className: 'ellipsis', dir: 'auto'}, userName(message.user_id)), timeOf(message), place ? placeOf(message) : null);
  const text = make('span', {className: 'card-text', dir: 'auto'}, ...marked(plainLine(message.text), hits));
  const files = (message.files || []).map(file => fileLine(file, hits));
  return make('a', {className: 'card', href: addressOf(message.channel_id, message.id)}, head, text, ...files);
}

function timeOf({created_at: at}) {
  const today = dayKey(at) === dayKey(Date.now());
  return make('time', {dateTime: new Date(at).toISOString(), title: fullTime(at)}, today ? clockTime(at) : shortDay(at));
}

function placeOf(message) {
  const channel = state.channels.get(message.channel_id);
  if (!channel) return null;
  return make('span', {className: 'card-place ellipsis', dir: 'auto'}, channel.kind === 'direct' ? channelName(channel) : `#${channel.name}`);
}

function fileLine(file, hits) {
  return make('span', {className: 'card-file'}, icon('file', 16), make('span', {className: 'ellipsis', dir: 'auto'}, ...marked(file.name, hits)));
}

/* A long text is cut around what was found. */
function marked(text, hits) {
  const found = hits ? hits(text) : [];
  const start = found.length && found[0][0] > SHOWN - BEFORE_HIT ? found[0][0] - BEFORE_HIT : 0;
  const end = Math.min(text.length, start + SHOWN);
  const parts = [];
  let at = start;
  for (const [from, to] of found.filter(([from, to]) => from >= start && to <= end)) {
    parts.push(text.slice(at, from), make('mark', {}, text.slice(from, to)));
    at = to;
  }
  return [start ? '…' : '', ...parts, text.slice(at, end), end < text.length ? '…' : ''].filter(Boolean);
}

/** A list of cards between which the arrows move; above the first stands `before`, when there is such an element. */
export function cardList(before = null) {
  const list = make('div', {className: 'cards'});
  list.addEventListener('keydown', event => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    const cards = findAll('.card, .more-cards', list);
    const next = step && (cards[cards.indexOf(event.target) + step] || (step < 0 ? before : null));
    if (!step) return;
    event.preventDefault();
    if (next) next.focus();
  });
  return list;
}

/** Draws a list of cards anew; the card or button that has the focus keeps it, or hands it to what stands in its place. */
export function keepFocus(list, draw) {
  const stops = () => findAll('a, button', list);
  const held = document.activeElement;
  const at = stops().indexOf(held);
  draw();
  if (at < 0 || held.isConnected) return;
  const next = stops().find(stop => held.href && stop.href === held.href && stop.className === held.className) || stops()[Math.min(at, stops().length - 1)];
  if (next) next.focus({preventScroll: true});
}

/** What stands where there are no cards. */
export const noCards = (title, text) => make('div', {className: 'no-cards'}, make('b', {dir: 'auto'}, title), make('p', {}, text));
