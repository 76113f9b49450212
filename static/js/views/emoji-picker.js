/** Choosing an emoji: a grid in a popover, on phones in a sheet; what was used lately stands first. */
import {find, findAll, make} from '../core/dom.js';
import {keep, kept} from '../core/store.js';
import {EMOJI, emojiName} from '../text/emoji.js';
import {laterWords} from '../text/later-words.js';

const KEPT = 18;
/* What is offered first keeps its place while it is used. */
const SETTLED = 5;

const inOrder = () => [...new Set([...(kept('emoji') || []), ...EMOJI.keys()])];

/** The first `count` emoji for the person signed in. */
export const firstEmoji = count => inOrder().slice(0, count);

/** Notes that an emoji was used. */
export function noteEmoji(emoji) {
  const order = inOrder();
  const at = order.indexOf(emoji);
  if (at >= 0 && at < SETTLED) return;
  keep('emoji', [emoji, ...order.filter(other => other !== emoji)].slice(0, KEPT));
}

/** Opens the grid at a button or another place; `choose(emoji)` hears what was taken. Gives the dialog. */
export async function openEmojiPicker(place, choose) {
  const {openMenu} = await import('./menu.js');
  const name = make('p', {className: 'emoji-name', 'aria-hidden': 'true'});
  const grid = make('div', {className: 'emoji-grid', role: 'group', 'aria-label': laterWords.addReaction}, ...inOrder().map(emojiButton));
  grid.addEventListener('keydown', event => moveInGrid(grid, event));
  for (const kind of ['focusin', 'pointerover']) grid.addEventListener(kind, event => showName(name, event.target.closest('button')));
  grid.addEventListener('click', event => take(event.target.closest('button'), choose));
  const dialog = openMenu(place, laterWords.addReaction, [grid, name]);
  find('button', grid).focus();
  return dialog;
}

function emojiButton(emoji, index) {
  return make('button', {type: 'button', role: 'menuitem', value: emoji, tabIndex: index ? -1 : 0, 'aria-label': emojiName(emoji)}, emoji);
}

function showName(name, button) {
  if (button) name.replaceChildren(make('span', {}, button.value), emojiName(button.value));
}

function take(button, choose) {
  if (!button) return;
  button.dispatchEvent(new CustomEvent('menu-done', {bubbles: true}));
  choose(button.value);
}

const columnsOf = grid => getComputedStyle(grid).gridTemplateColumns.split(' ').length;
const STEPS = {
  ArrowRight: () => 1,
  ArrowLeft: () => -1,
  ArrowDown: columnsOf,
  ArrowUp: grid => -columnsOf(grid),
};

function moveInGrid(grid, event) {
  if (!STEPS[event.key]) return;
  event.preventDefault();
  event.stopPropagation();
  const buttons = findAll('button', grid);
  const next = buttons[buttons.indexOf(document.activeElement) + STEPS[event.key](grid)];
  if (!next) return;
  for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
  next.focus();
}
