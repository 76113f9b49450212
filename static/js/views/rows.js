/** The rows of the timeline: what stands there, and the least change of the page that shows it. */
import {fill, findAll, icon, isClaimed, make} from '../core/dom.js';
import {outboxOf} from '../core/outbox.js';
import {channelName, mayInvite, mayManage, state} from '../core/state.js';
import {dateForm, dayKey, dayName} from '../text/measures.js';
import {words} from '../text/words.js';
import {drawMessage, messageEdition} from './message.js';

const GROUP_TIME = 5 * 60 * 1000;
const MARKED_TIME = 2400;

/** The rows of a view {window, dividerAfter, hidden}: each {key, stamp, draw}. */
export function rowsOf(view) {
  const rows = view.window.moreBefore ? [] : [startRow(view)];
  let previous = null;
  for (const {message, entry} of shownMessages(view)) {
    const newDay = !previous || dayKey(previous.created_at) !== dayKey(message.created_at);
    const divided = dividesAt(view, previous, message);
    if (newDay) rows.push(dayRow(message));
    if (divided) rows.push(newRow());
    rows.push(messageRow(message, entry, !newDay && !divided && groups(previous, message)));
    previous = message;
  }
  return rows;
}

function shownMessages({window, hidden}) {
  const there = window.messages.filter(message => !hidden.has(message.id)).map(message => ({message, entry: null}));
  if (!window.loaded) return there;
  const waiting = outboxOf(window.channelId).filter(entry => !window.hasClientId(entry.user_id, entry.client_id));
  return [...there, ...waiting.map(entry => ({message: asMessage(entry), entry}))];
}

/** What waits in the outbox, in the shape of a message. */
function asMessage(entry) {
  return {...entry, id: 0, kind: 'text', mentions: [], created_at: entry.at, edited_at: null, deleted: false};
}

function dividesAt({dividerAfter, window}, previous, message) {
  if (dividerAfter === null || !message.id || message.id <= dividerAfter || message.user_id === state.me.id) return false;
  return previous ? previous.id <= dividerAfter || onlyOwnSince(window, dividerAfter, message) : !window.moreBefore;
}

/* One's own messages are never new, so the divider stands after them. */
function onlyOwnSince(window, dividerAfter, message) {
  return window.messages.every(other => other.id <= dividerAfter || other.id >= message.id || other.user_id === state.me.id);
}

function groups(previous, message) {
  return previous && previous.user_id === message.user_id && previous.kind === 'text' && message.kind === 'text'
    && Math.abs(message.created_at - previous.created_at) < GROUP_TIME;
}

function startRow({window}) {
  const channel = state.channels.get(window.channelId);
  const name = channel.kind === 'direct' ? channelName(channel) : `#${channel.name}`;
  const notebook = channel.kind === 'direct' && channel.members.length === 1;
  const text = channel.topic || (notebook ? words.notebookText : words.startText);
  const buttons = window.messages.length ? [] : startButtons(channel);
  return {key: 'start', stamp: `${name} ${text} ${buttons.length}`, draw: () => fill('start', {title: words.startOf(name), text, buttons})};
}

/* A channel in which nothing was said yet says what to do. */
function startButtons(channel) {
  const add = mayInvite(channel) && make('button', {type: 'button', className: 'button primary add-people', 'data-claim': '.add-people'}, icon('userplus', 18), words.addPeople);
  const topic = mayManage(channel) && !channel.topic && make('button', {type: 'button', className: 'button secondary set-topic', 'data-claim': '.set-topic'}, words.setATopic);
  return [add, topic].filter(button => button && isClaimed(button));
}

function dayRow(message) {
  const key = dayKey(message.created_at);
  return {key: `day ${key}`, stamp: `${key} ${dateForm()}`, draw: () => fill('day', {text: dayName(message.created_at)})};
}

const newRow = () => ({key: 'new', stamp: 'new', draw: () => fill('new')});

function messageRow(message, entry, grouped) {
  const {id, client_id: clientId, user_id: userId} = message;
  return {
    key: clientId ? `${userId} ${clientId}` : String(id),
    stamp: [...(entry ? [entry, state.link.status] : [message, lookOf(userId)]), grouped, dateForm(), messageEdition()],
    draw: () => drawMessage(message, {grouped, entry}),
    message,
  };
}

function lookOf(userId) {
  const {display_name: name, avatar, color, status} = state.users.get(userId) || {};
  return `${name} ${avatar} ${color} ${status && JSON.stringify(status)}`;
}

const drawn = new WeakMap();

/** The message an article shows. */
export function messageOf(article) {
  const row = article && drawn.get(article);
  return row ? row.message : null;
}

/**
 * Makes the children of `container` show `rows`, each {key, stamp, draw, dress?}: elements that still fit stay the same, and one that is
 * being edited is left alone; `dress(element)` changes what is not worth a new element.
 * What goes does so first, and what is drawn anew takes the old one's place: an element that is moved loses the focus, and a film in it stops.
 */
export function showRows(container, rows) {
  const old = new Map([...container.children].map(element => [element.dataset.key, element]));
  const wanted = new Set(rows.map(({key}) => key));
  for (const element of [...container.children]) if (!wanted.has(element.dataset.key)) element.remove();
  rows.forEach((row, index) => {
    const element = elementFor(row, old.get(row.key));
    const place = container.children[index] || null;
    if (element !== place) container.insertBefore(element, place);
    if (row.dress) row.dress(element);
  });
}

function elementFor(row, old) {
  if (old && (sameStamp(drawn.get(old).stamp, row.stamp) || old.classList.contains('editing'))) return old;
  const element = row.draw();
  element.dataset.key = row.key;
  drawn.set(element, row);
  if (!old) return element;
  element.classList.toggle('marked', old.classList.contains('marked'));
  if (old.contains(document.activeElement)) queueMicrotask(() => element.focus({preventScroll: true}));
  old.replaceWith(element);
  return element;
}

/* A stamp is one value, a list of them, or what the row looks like. */
function sameStamp(one, other) {
  if (one instanceof Node) return one.isEqualNode(other);
  if (!Array.isArray(one) || !Array.isArray(other)) return one === other;
  return one.length === other.length && one.every((part, index) => part === other[index]);
}

let marking = 0;

/** Marks one row for a moment; a row that is drawn anew meanwhile keeps the mark. */
export function markRow(container, article) {
  const unmark = () => findAll('.marked', container).forEach(marked => marked.classList.remove('marked'));
  unmark();
  article.classList.add('marked');
  clearTimeout(marking);
  marking = setTimeout(unmark, MARKED_TIME);
}
