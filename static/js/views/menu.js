/** Menus: at a button, on phones a sheet from below. */
import {icon, isPhone, make} from '../core/dom.js';
import {closeOnBackdrop, showModal} from './dialog.js';

/** A menu at a button, on phones a sheet from below. `items`: {icon, label, run, key?, danger?, checked?} or 'rule' or a node. */
export function openMenu(button, title, items) {
  const menu = make('div', {className: 'menu', role: 'menu', 'aria-label': title}, ...items.map(menuItem));
  menu.addEventListener('keydown', event => moveInMenu(menu, event));
  return openPopover(button, title, menu);
}

/** Anything at a button, on phones in a sheet from below; the event `menu-done` within closes it. */
export function openPopover(button, title, content) {
  const sheet = isPhone();
  const dialog = make('dialog', {className: sheet ? 'bottom-sheet' : 'popover', 'aria-label': title}, content);
  closeOnBackdrop(dialog);
  dialog.addEventListener('menu-done', () => dialog.close());
  showModal(dialog);
  if (!sheet) placeAt(dialog, button);
  return dialog;
}

function menuItem(item) {
  if (item === 'rule') return make('hr');
  if (item instanceof Node) return item;
  const role = item.checked === undefined ? 'menuitem' : 'menuitemradio';
  const look = {type: 'button', role, className: item.danger ? 'danger' : ''};
  const entry = make('button', look, icon(item.icon, 18), make('span', {className: 'grow'}, item.label));
  if (item.key) entry.append(make('span', {className: 'key'}, item.key));
  if (item.checked !== undefined) entry.setAttribute('aria-checked', String(item.checked));
  entry.addEventListener('click', () => {
    entry.dispatchEvent(new CustomEvent('menu-done', {bubbles: true}));
    item.run();
  });
  return entry;
}

function moveInMenu(menu, event) {
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
  if (!step) return;
  event.preventDefault();
  const entries = [...menu.querySelectorAll('button')];
  const at = entries.indexOf(document.activeElement);
  entries[(at + step + entries.length) % entries.length].focus();
}

/** Says where a popover stands, not how it looks: the style sheet draws it at --x and --y. */
export function placeAt(popover, button) {
  const at = button.getBoundingClientRect();
  const {width, height} = popover.getBoundingClientRect();
  const below = at.bottom + 4 + height < innerHeight;
  const y = below ? at.bottom + 4 : Math.max(8, Math.min(at.top - 4, innerHeight - 8) - height);
  const x = Math.max(8, Math.min(innerWidth - width - 8, at.left + width > innerWidth - 8 ? at.right - width : at.left));
  popover.style.setProperty('--x', `${Math.round(x)}px`);
  popover.style.setProperty('--y', `${Math.round(y)}px`);
}

/** A row of a menu where one of few is chosen; `labels` maps values to words. The menu stays open. */
export function choices(title, labels, chosen, choose) {
  const buttons = Object.entries(labels).map(([value, text]) => (
    make('button', {type: 'button', role: 'menuitemradio', value, 'aria-checked': String(value === chosen)}, text)));
  const segment = make('div', {className: 'segment'}, ...buttons);
  segment.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (!button) return;
    choose(button.value);
    for (const other of buttons) other.setAttribute('aria-checked', String(other === button));
  });
  return make('div', {className: 'menu-choice', role: 'group', 'aria-label': title}, make('span', {}, title), segment);
}
