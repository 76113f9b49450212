/** All shortcuts in a dialog, by group, found by words and keys. */
import {find, isPhone, make} from '../core/dom.js';
import {choosePreference} from '../core/preferences.js';
import {keysWords} from '../text/keys-words.js';
import {openDialog} from './dialog.js';
import {messageActions} from './message.js';
import {areSingleKeysOn, keyCaps, shortcuts} from './shortcuts.js';

/** Opens the list of all shortcuts. */
export function openShortcutHelp() {
  if (find('.shortcut-help')) return;
  const field = make('input', {type: 'search', placeholder: keysWords.filterShortcuts, 'aria-label': keysWords.filterShortcuts, autocomplete: 'off'});
  const count = make('p', {className: 'visually-hidden', role: 'status'});
  const list = make('div', {className: 'shortcut-list', tabIndex: 0, role: 'region', 'aria-label': keysWords.shortcuts});
  const draw = () => drawList(list, count, field.value);
  field.addEventListener('input', draw);
  const head = make('div', {className: 'shortcut-head'}, make('span', {className: 'input'}, field), singleKeysSwitch(draw));
  draw();
  openDialog(keysWords.shortcuts, make('div', {className: 'shortcut-help'}, head, list, count), {className: 'wide'});
  if (!isPhone()) field.focus();
}

function singleKeysSwitch(draw) {
  const input = make('input', {type: 'checkbox', role: 'switch', className: 'switch', checked: areSingleKeysOn()});
  input.addEventListener('change', () => { choosePreference('single_keys', input.checked); draw(); });
  return make('label', {className: 'single-keys'}, input, keysWords.singleKeys);
}

function drawList(list, count, query) {
  const wanted = query.toLowerCase().split(/\s+/);
  const found = allShortcuts().filter(shortcut => wanted.every(word => textOf(shortcut).includes(word)));
  const groups = Object.keys(keysWords.shortcutGroups).filter(group => found.some(shortcut => shortcut.group === group));
  list.replaceChildren(...groups.map(group => drawGroup(group, found.filter(shortcut => shortcut.group === group))));
  if (!found.length) list.append(make('p', {className: 'muted'}, keysWords.noResults(query)));
  count.textContent = keysWords.results(found.length);
}

const textOf = ({group, label, keys}) => `${label} ${keys.join(' ')} ${keysWords.shortcutGroups[group]}`.toLowerCase();

/* What does the same stands once, with all its keys. */
function allShortcuts() {
  const merged = new Map();
  const onMessages = messageActions.filter(action => action.key).map(({key, label}) => ({keys: [key], label, group: 'message'}));
  for (const shortcut of [...shortcuts, ...onMessages]) {
    const name = `${shortcut.group} ${shortcut.label}`;
    const known = merged.get(name) || {...shortcut, keys: []};
    merged.set(name, {...known, keys: [...new Set([...known.keys, ...shortcut.keys])], single: known.single && shortcut.single});
  }
  return [...merged.values()];
}

function drawGroup(name, found) {
  const id = `shortcuts-${name}`;
  const title = make('h3', {id}, keysWords.shortcutGroups[name]);
  return make('section', {'aria-labelledby': id}, title, make('dl', {}, ...found.map(drawShortcut)));
}

function drawShortcut({keys, label, single}) {
  const ways = keys.flatMap((way, index) => [index ? keysWords.or : null, drawWay(way)]);
  const off = single && !areSingleKeysOn();
  return make('div', {className: off ? 'off' : ''}, make('dt', {}, label), make('dd', {}, ...ways, off ? make('small', {}, keysWords.off) : null));
}

const drawWay = way => make('span', {className: 'way'}, ...keyCaps(way).map(cap => make('kbd', {}, cap)));
