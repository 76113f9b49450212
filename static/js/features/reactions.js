/** Reactions: chips under a message, three emoji in its toolbar, a row of them in the sheet, and a grid of all. */
import {put, remove} from '../core/api.js';
import {find, icon, isPhone, make, slot} from '../core/dom.js';
import {apply, openChannel, state, userName} from '../core/state.js';
import {emojiName} from '../text/emoji.js';
import {laterWords} from '../text/later-words.js';
import {words} from '../text/words.js';
import {learnEmoji} from '../views/emoji-names.js';
import {firstEmoji, noteEmoji} from '../views/emoji-used.js';
import {addMessageAction, onMessageDrawn} from '../views/message.js';
import {articleOf, shownMessages} from '../views/timeline.js';
import {attempt, fetched} from '../views/toast.js';

const IN_TOOLBAR = [0, 1, 2];
const IN_SHEET = 5;
const NAMED = 12;
const PICKER_WIDTH = 352;
const TOOLBAR_EDGE = 20;

for (const index of IN_TOOLBAR) {
  addMessageAction({
    get glyph() { return firstEmoji(3)[index]; },
    get label() { return laterWords.reactWith(emojiName(this.glyph)); },
    name: `react-${index}`, order: index, quick: true, toolbarOnly: true, may: mayReact,
    run(message) { toggle(message.id, this.glyph); },
  });
}
addMessageAction({
  name: 'react', icon: 'smileplus', label: laterWords.addReaction, order: 5, quick: true, may: mayReact, run: choose,
  row: (message, article) => isPhone() ? sheetRow(message, article) : null,
});

function mayReact(message) {
  const channel = openChannel();
  return Boolean(message.id && message.kind === 'text' && !message.deleted && channel && channel.joined && !channel.archived);
}

/* -- the chips */

onMessageDrawn((article, message) => {
  const reactions = Object.entries(message.reactions || {});
  if (!reactions.length || message.deleted || message.kind !== 'text') return;
  const may = mayReact(message);
  const chips = reactions.map(([emoji, users]) => chip(message, emoji, users, may));
  slot(article, 'below').append(make('div', {className: 'reactions'}, ...chips, may ? addButton(message) : null));
  keepFocus(article);
  if (reactions.some(([emoji]) => emojiName(emoji) === emoji)) learnEmoji();
});

function chip(message, emoji, users, may) {
  const who = namesOf(users);
  const tip = make('span', {className: 'tip', 'aria-hidden': 'true'}, who);
  const button = make('button', {
    type: 'button', className: 'reaction', value: emoji, 'aria-label': laterWords.reactedWith(emojiName(emoji), users.length, who),
    'aria-pressed': String(users.includes(state.me.id)), 'aria-disabled': may ? null : 'true',
  }, make('span', {className: 'glyph'}, emoji), make('span', {}, String(users.length)), tip);
  if (may) button.addEventListener('click', () => toggle(message.id, emoji));
  return button;
}

function addButton(message) {
  const button = make('button', {type: 'button', className: 'reaction add', 'aria-label': laterWords.addReaction, 'aria-haspopup': 'menu'}, icon('smileplus', 16));
  button.addEventListener('click', () => openPicker(button, message.id));
  return button;
}

/* Oneself first, then in the order in which they came; a crowd is counted. */
function namesOf(users) {
  const others = users.filter(id => id !== state.me.id).map(userName);
  const names = others.length === users.length ? others : [laterWords.you, ...others];
  const shown = names.slice(0, NAMED);
  if (names.length > NAMED) shown.push(laterWords.others(names.length - NAMED));
  return shown.reduce((line, name, index) => line + (index ? words.between(index === shown.length - 1) : '') + name, '');
}

/* A chip that is drawn anew keeps the focus, after the row has taken it. */
function keepFocus(article) {
  const held = document.activeElement?.closest('.reaction');
  if (!held || held.closest('article').dataset.id !== String(article.dataset.id)) return;
  queueMicrotask(() => queueMicrotask(() => focusChip(article, held.value)));
}

function focusChip(article, emoji) {
  const chip = find(`.reaction[value="${CSS.escape(emoji)}"]`, article) || find('.reaction', article) || article;
  chip.focus({preventScroll: true});
}

/* -- reacting */

/* One after the other: a second click must not overtake the first. */
let asking = Promise.resolve();

/* Shown at once, taken back when the server refuses. */
function toggle(messageId, emoji) {
  const message = shownMessages().find(other => other.id === messageId);
  if (!message) return;
  const reacts = !((message.reactions || {})[emoji] || []).includes(state.me.id);
  if (reacts) noteEmoji(emoji);
  show(messageId, emoji, reacts);
  asking = asking.then(() => tellServer(messageId, emoji, reacts));
}

async function tellServer(messageId, emoji, reacts) {
  const path = `/messages/${messageId}/reactions/${encodeURIComponent(emoji)}`;
  const done = await attempt(async () => {
    await (reacts ? put(path) : remove(path));
    return true;
  });
  if (!done) show(messageId, emoji, !reacts);
}

function show(messageId, emoji, reacts) {
  const message = shownMessages().find(other => other.id === messageId);
  if (!message) return;
  const reactions = {...message.reactions};
  const others = (reactions[emoji] || []).filter(id => id !== state.me.id);
  reactions[emoji] = reacts ? [...others, state.me.id] : others;
  if (!reactions[emoji].length) delete reactions[emoji];
  apply({kind: 'message', value: {...message, reactions}});
}

/* Below where the toolbar stood, which is gone by now. */
function choose(message, article) {
  const {right, top} = article.getBoundingClientRect();
  const place = new DOMRect(right - TOOLBAR_EDGE - PICKER_WIDTH, top, PICKER_WIDTH, TOOLBAR_EDGE);
  return openPicker({getBoundingClientRect: () => place}, message.id);
}

async function openPicker(place, messageId) {
  const picker = await fetched(import('../views/emoji-picker.js'));
  if (picker) picker.pickEmoji(place, emoji => {
    toggle(messageId, emoji);
    const article = articleOf(messageId);
    if (article) focusChip(article, emoji);
  });
}

function sheetRow(message, article) {
  const more = make('button', {type: 'button', role: 'menuitem', 'aria-label': laterWords.addReaction}, icon('smileplus', 24));
  more.addEventListener('click', () => finish(more, () => choose(message, article)));
  return make('div', {className: 'reaction-row', role: 'group', 'aria-label': laterWords.addReaction}, ...firstEmoji(IN_SHEET).map(emoji => sheetButton(message, emoji)), more);
}

function sheetButton(message, emoji) {
  const button = make('button', {type: 'button', role: 'menuitem', 'aria-label': laterWords.reactWith(emojiName(emoji))}, emoji);
  button.addEventListener('click', () => finish(button, () => toggle(message.id, emoji)));
  return button;
}

function finish(button, act) {
  button.dispatchEvent(new CustomEvent('menu-done', {bubbles: true}));
  act();
}
