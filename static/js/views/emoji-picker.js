/** Choosing an emoji: all of them in a popover, on phones in a sheet; what was used lately stands first. */
import {find, findAll, icon, isComposing, isPhone, isTouch, label, make, styled} from '../core/dom.js';
import {choosePreference} from '../core/preferences.js';
import {emojiEntry, emojiName, findEmoji, loadEmoji, withTone} from '../text/emoji.js';
import {emojiWords} from '../text/emoji-words.js';
import {emojiInOrder, noteEmoji, skinTone} from './emoji-used.js';
import {fetched} from './toast.js';

const COLUMNS = 9;
const PHONE_CELL = 44;
const PHONE_MARGIN = 24;
const TABS = {
  used: 'clock', people: 'smile', nature: 'leaf', food: 'cup', activity: 'ball', travel: 'anchor', objects: 'bulb', symbols: 'hash', flags: 'flag',
};
const HAND = '✋';

/** Opens the picker at a button or another place; `choose(emoji)` hears what was taken, once the picker is gone. */
export async function pickEmoji(place, choose) {
  const loaded = await fetched(Promise.all([import('./menu.js'), loadEmoji(), styled('emoji')]));
  if (!loaded) return;
  const [{openPopover}, {groups}] = loaded;
  const picker = draw(groups);
  const dialog = openPopover(place, emojiWords.title, picker.element);
  dialog.classList.add('emoji-dialog');
  markTab(picker);
  if (isTouch()) picker.list.focus();
  else picker.search.focus();
  dialog.addEventListener('close', () => {
    if (!picker.taken) return;
    noteEmoji(picker.taken);
    choose(picker.taken);
  });
}

function draw(groups) {
  const columns = isPhone() ? Math.floor((innerWidth - PHONE_MARGIN) / PHONE_CELL) : COLUMNS;
  const search = make('input', {
    type: 'search', role: 'combobox', placeholder: emojiWords.search, autocomplete: 'off', spellcheck: false, 'aria-label': emojiWords.search,
    'aria-expanded': 'true', 'aria-controls': 'emoji-list', 'aria-autocomplete': 'list',
  });
  const list = make('div', {id: 'emoji-list', className: 'emoji-list', role: 'listbox', tabIndex: -1, 'aria-label': emojiWords.title});
  const tabs = make('div', {className: 'emoji-tabs'}, ...Object.keys(TABS).map(tab));
  const foot = make('div', {className: 'emoji-foot'});
  const field = make('span', {className: 'input emoji-search'}, icon('search', 18), search);
  const picker = {element: make('div', {className: 'emoji-picker'}, tabs, field, list, foot), groups, columns, search, list, tabs, foot, taken: null};
  list.style.setProperty('--columns', columns);
  wire(picker);
  drawList(picker);
  return picker;
}

function tab(name) {
  const button = make('button', {type: 'button', value: name}, icon(TABS[name], 20));
  label(button, emojiWords.groups[name]);
  return button;
}

function wire(picker) {
  const {element, search, list, tabs} = picker;
  element.addEventListener('keydown', event => onKey(picker, event));
  search.addEventListener('input', () => drawList(picker));
  list.addEventListener('pointermove', event => markUnder(picker, event));
  list.addEventListener('click', event => take(picker, event.target.closest('button')));
  list.addEventListener('scroll', () => markTab(picker), {passive: true});
  tabs.addEventListener('click', event => goTo(picker, event.target.closest('button')));
}

/* What scrolls by under a resting pointer is not pointed at. */
function markUnder(picker, {target, pointerType, movementX, movementY}) {
  const button = target.closest('button');
  if (button && button !== picker.marked && pointerType === 'mouse' && (movementX || movementY)) mark(picker, button);
}

function take(picker, button) {
  if (!button) return;
  picker.taken = button.value;
  button.dispatchEvent(new CustomEvent('menu-done', {bubbles: true}));
}

/* -- the list */

function drawList(picker) {
  const {groups, search, list} = picker;
  const found = findEmoji(search.value);
  const shown = search.value.trim() ? [{name: 'found', entries: found}] : [{name: 'used', entries: emojiInOrder().map(emoji => ({emoji}))}, ...groups];
  list.replaceChildren(...shown.filter(({entries}) => entries.length).map(group => drawGroup(picker, group)));
  if (!list.children.length) list.append(make('p', {className: 'muted', role: 'status'}, emojiWords.nothing));
  list.scrollTop = 0;
  picker.rows = findAll('.emoji-grid', list).flatMap(grid => rowsOf([...grid.children], picker.columns));
  picker.cells = picker.rows.flat();
  mark(picker, picker.cells[0]);
  markTab(picker);
}

function rowsOf(cells, columns) {
  return Array.from({length: Math.ceil(cells.length / columns)}, (_, row) => cells.slice(row * columns, (row + 1) * columns));
}

function drawGroup({columns}, {name, entries}) {
  const title = make('h3', {id: `emoji-${name}`}, emojiWords.groups[name]);
  const cells = entries.map(({emoji}, index) => cell(name === 'used' ? emoji : withTone(emoji, skinTone()), `emoji-${name}-${index}`));
  const group = make('section', {role: 'group', 'aria-labelledby': title.id, 'data-name': name}, title, make('div', {className: 'emoji-grid'}, ...cells));
  group.style.setProperty('--rows', Math.ceil(entries.length / columns));
  return group;
}

function cell(emoji, id) {
  return make('button', {type: 'button', id, role: 'option', value: emoji, tabIndex: -1, 'aria-label': emojiName(emoji), 'aria-selected': 'false'}, emoji);
}

function mark(picker, button) {
  if (picker.marked) picker.marked.setAttribute('aria-selected', 'false');
  picker.marked = button || null;
  picker.search.setAttribute('aria-activedescendant', button ? button.id : '');
  if (button) button.setAttribute('aria-selected', 'true');
  drawFoot(picker);
}

function goTo(picker, button) {
  if (!button) return;
  if (picker.search.value) {
    picker.search.value = '';
    drawList(picker);
  }
  const group = find(`[data-name="${button.value}"]`, picker.list);
  picker.list.scrollTop = group.offsetTop - picker.list.offsetTop;
  mark(picker, find('button', group));
}

function markTab({list, tabs}) {
  const top = list.scrollTop + list.offsetTop + 1;
  const group = findAll('section', list).filter(one => one.offsetTop <= top).pop();
  for (const button of tabs.children) button.setAttribute('aria-current', String(Boolean(group) && button.value === group.dataset.name));
}

/* -- by keys: the search field keeps the focus, what is marked moves */

function onKey(picker, event) {
  if (isComposing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = event.target === picker.search || event.target === picker.list ? KEYS[event.key] : null;
  if (!act || (event.key.startsWith('Arrow') && !mayMove(picker, event.key))) return;
  event.preventDefault();
  act(picker);
}

/* Within a word that is searched for, left and right move the caret. */
function mayMove({search}, key) {
  const edge = key === 'ArrowRight' ? search.value.length : 0;
  return ['ArrowUp', 'ArrowDown'].includes(key) || search.selectionStart === edge;
}

const KEYS = {
  ArrowRight: picker => step(picker, 1),
  ArrowLeft: picker => step(picker, -1),
  ArrowDown: picker => stepRow(picker, 1),
  ArrowUp: picker => stepRow(picker, -1),
  Enter: picker => take(picker, picker.marked),
};

function step(picker, by) {
  const next = picker.cells[picker.cells.indexOf(picker.marked) + by];
  if (next) goOn(picker, next);
}

/* Groups end in rows of any length: straight down may be the last of the next row. */
function stepRow(picker, by) {
  const at = picker.rows.findIndex(row => row.includes(picker.marked));
  const next = at >= 0 && picker.rows[at + by];
  if (next) goOn(picker, next[Math.min(next.length - 1, picker.rows[at].indexOf(picker.marked))]);
}

function goOn(picker, button) {
  mark(picker, button);
  button.scrollIntoView({block: 'nearest'});
}

/* -- what is marked, and the skin tone */

function drawFoot(picker) {
  const emoji = picker.marked ? picker.marked.value : '';
  const entry = emojiEntry(emoji);
  const name = make('b', {className: 'ellipsis'}, emojiName(emoji));
  const code = make('small', {className: 'ellipsis'}, entry ? `:${entry.code}:` : '');
  picker.foot.replaceChildren(make('span', {className: 'glyph', 'aria-hidden': 'true'}, emoji), make('span', {className: 'grow'}, name, code), toneButton(picker));
}

function toneButton(picker) {
  const hand = make('span', {className: 'glyph', 'aria-hidden': 'true'}, withTone(HAND, skinTone()));
  const button = make('button', {type: 'button', className: 'tone-button', 'aria-expanded': 'false'}, emojiWords.skinTone, hand);
  button.addEventListener('click', () => drawTones(picker));
  return button;
}

function drawTones(picker) {
  const buttons = emojiWords.tones.map((name, number) => {
    const button = make('button', {type: 'button', className: 'glyph', value: number, 'aria-pressed': String(number === skinTone())}, withTone(HAND, number));
    label(button, name);
    button.addEventListener('click', () => chooseTone(picker, number));
    return button;
  });
  picker.foot.replaceChildren(make('div', {className: 'tones', role: 'group', 'aria-label': emojiWords.skinTone}, ...buttons));
  buttons[skinTone()].focus();
}

function chooseTone(picker, number) {
  choosePreference('skin_tone', number);
  const {scrollTop} = picker.list;
  drawList(picker);
  picker.list.scrollTop = scrollTop;
  find('.tone-button', picker.foot).focus();
}
