/** The one table of keyboard shortcuts, and the one place that finds what a key press means. */
import {find, isComposing} from '../core/dom.js';
import {preference} from '../core/preferences.js';

/* What stands on a key cap; on Macs the signs of its keyboards. */
const CAPS = {ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←', ArrowRight: '→', Escape: 'Esc'};
const MAC_CAPS = {...CAPS, Ctrl: '⌘', Alt: '⌥', Shift: '⇧'};

/* How long (ms) the second key of two may take. */
const SEQUENCE_TIME = 1200;
const TEXT_FIELDS = 'input, textarea, select, [contenteditable]';
const MODIFIERS = ['Control', 'Shift', 'Alt', 'Meta', 'AltGraph', 'CapsLock'];

const isMac = /Mac|iP(hone|ad|od)/.test(navigator.platform);

/** Every shortcut there is, in the order they were added. */
export const shortcuts = [];

/**
 * Adds {keys, label, group, run(event)?, may(event)?, single?, mode?}; of several that fit and may, one of a `mode` runs, else the first.
 * `keys` names one way to press it or a list of ways: 'Ctrl+Shift+C' (Cmd on Macs), 'Alt+ArrowUp', '?', 'J', 'Shift+G', 'G G'.
 * `single` ones work outside text fields and can be switched off (WCAG 2.1.4). Without `run` it is listed, and heard elsewhere.
 */
export function addShortcut(shortcut) {
  shortcuts.push({may: () => true, ...shortcut, keys: [shortcut.keys].flat()});
}

export const areSingleKeysOn = () => preference('single_keys', true);

/** The name of a key press, as `addShortcut` takes it; capitals and CapsLock make no difference, Shift does. */
export function keyName(event) {
  const key = keyOf(event);
  const shift = event.shiftKey && (key.length > 1 || /[A-Z]/.test(key) || isCommand(event));
  return [isCommand(event) && 'Ctrl', isOtherCommand(event) && 'Meta', event.altKey && 'Alt', shift && 'Shift', key].filter(Boolean).join('+');
}

/* On Macs Ctrl belongs to the text field (Ctrl+K deletes to the end of the line). */
const isCommand = event => isMac ? event.metaKey : event.ctrlKey;
const isOtherCommand = event => isMac ? event.ctrlKey : event.metaKey;

/* With other alphabets the place of the key counts, with Ctrl+Shift the digit below the sign. */
function keyOf(event) {
  if (event.key === ' ') return 'Space';
  if (event.key.length > 1) return event.key;
  const [, kind, below] = /^(Key|Digit)(.)$/.exec(event.code) || [];
  const byPlace = kind === 'Key' ? event.key > '~' : kind === 'Digit' && isCommand(event);
  return byPlace ? below : event.key.toUpperCase();
}

/** The key caps of one way to press a shortcut: 'Ctrl+K' gives ['Ctrl', 'K'], on Macs ['⌘', 'K']. */
export const keyCaps = keys => keys.split(/[+ ]/).map(key => (isMac ? MAC_CAPS : CAPS)[key] || key);

/** The same in one line, for tooltips. */
export const shownKeys = keys => keyCaps(keys).join(isMac || keys.includes(' ') ? ' ' : '+');

/** Shows the list of all shortcuts, which is fetched when it is first wanted. */
export async function showShortcuts() {
  const {openShortcutHelp} = await import('./shortcut-help.js');
  openShortcutHelp();
}

const first = {name: '', at: 0};

document.addEventListener('keydown', event => {
  if (event.defaultPrevented || isComposing(event) || MODIFIERS.includes(event.key) || find('dialog[open]')) return;
  const name = keyName(event);
  const inTime = event.timeStamp - first.at < SEQUENCE_TIME;
  const shortcut = (inTime && shortcutFor(`${first.name} ${name}`, event)) || shortcutFor(name, event);
  Object.assign(first, {name: shortcut ? '' : name, at: event.timeStamp});
  if (!shortcut) return;
  event.preventDefault();
  shortcut.run(event);
});

function shortcutFor(name, event) {
  const fit = shortcuts.filter(shortcut => shortcut.run && shortcut.keys.includes(name) && isHeard(shortcut, event) && shortcut.may(event));
  return fit.find(shortcut => shortcut.mode) || fit[0];
}

function isHeard({single}, {target}) {
  return !single || (areSingleKeysOn() && !target.closest(TEXT_FIELDS));
}
