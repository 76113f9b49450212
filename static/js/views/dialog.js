/** Dialogs, questions, menus and toasts. */
import {fill, find, icon, isPhone, make, setSlot, slot} from '../core/dom.js';
import {words} from '../text/words.js';

const TOAST_TIME = 5000;

/** Shows a modal dialog and gives it back; it removes itself when closed. `locked` cannot be dismissed. */
export function openDialog(title, body, {locked = false, className = ''} = {}) {
  const dialog = fill('dialog', {title, body});
  if (className) dialog.classList.add(className);
  const close = find('.close', dialog);
  if (locked) close.remove();
  else close.addEventListener('click', () => dialog.close());
  dialog.addEventListener('cancel', event => locked && event.preventDefault());
  if (!locked) closeOnBackdrop(dialog);
  return show(dialog, locked);
}

function show(dialog, locked = false) {
  const held = document.activeElement;
  dialog.addEventListener('close', () => {
    dialog.remove();
    giveBack(held);
  });
  /* Chromium closes on a second Esc whatever `cancel` says; a locked dialog swallows the key. */
  dialog.addEventListener('keydown', event => locked && event.key === 'Escape' && event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/* Chromium gives the focus back without the caret: keys then go nowhere until the box loses focus once. */
function giveBack(held) {
  if (!held || !held.isConnected || find('dialog[open]')) return;
  if (document.activeElement === held) held.blur();
  held.focus({preventScroll: true});
}

function closeOnBackdrop(dialog) {
  dialog.addEventListener('pointerdown', event => event.target === dialog && dialog.close());
}

/** Asks before something that cannot be taken back. Resolves to true when confirmed. */
export function ask(title, text, confirm, {danger = false} = {}) {
  return new Promise(resolve => {
    const yes = make('button', {type: 'button', className: `button ${danger ? 'danger' : 'primary'}`}, confirm);
    const no = make('button', {type: 'button', className: 'button secondary'}, words.cancel);
    const body = make('div', {className: 'stack'}, make('p', {}, text), make('div', {className: 'form-buttons'}, no, yes));
    const dialog = openDialog(title, body);
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'));
    yes.addEventListener('click', () => dialog.close('yes'));
    no.addEventListener('click', () => dialog.close());
    yes.focus();
  });
}

/** A labelled text field for `openForm`. */
export function field(name, text, {hint = '', ...properties} = {}) {
  const input = make('input', {name, ...properties});
  const parts = [make('span', {}, text), make('span', {className: 'input'}, input)];
  if (hint) parts.push(make('small', {className: 'hint'}, hint));
  return make('label', {className: 'field'}, ...parts);
}

/** A dialog with a form; `submit(values)` may raise an error, which is shown at its field. */
export function openForm(title, fields, button, submit) {
  const form = fill('form', {fields, submit: button});
  const dialog = openDialog(title, form);
  form.elements.cancel.addEventListener('click', () => dialog.close());
  form.addEventListener('submit', async event => {
    event.preventDefault();
    if (await submitted(form, submit)) dialog.close();
  });
  const first = find('input', form);
  if (first) first.select();
  return dialog;
}

/** Runs `submit(values)` once at a time; true when it went well, else the error stands in the form. */
export async function submitted(form, submit) {
  if (form.dataset.busy) return false;
  form.dataset.busy = 'yes';
  clearErrors(form);
  try {
    await submit(Object.fromEntries(new FormData(form)));
    return true;
  } catch (error) {
    showError(form, error);
    return false;
  } finally {
    delete form.dataset.busy;
  }
}

export function clearErrors(form) {
  find('.form-note', form).textContent = '';
  for (const wrong of form.querySelectorAll('[aria-invalid]')) wrong.removeAttribute('aria-invalid');
  for (const text of form.querySelectorAll('.field-error')) text.remove();
}

/** Says what is wrong beside the field it is about, or above the buttons. */
export function showError(form, error) {
  const text = error.status === 0 ? words.noServer : error.message || words.failed;
  const input = error.field && form.elements[error.field];
  if (!input || !input.closest) return void (find('.form-note', form).textContent = text);
  const note = make('small', {className: 'field-error', id: `${form.id}-${error.field}-error`}, text);
  input.setAttribute('aria-invalid', 'true');
  input.setAttribute('aria-describedby', note.id);
  input.closest('.field').append(note);
  input.focus();
}

/** A menu at a button, on phones a sheet from below. `items`: {icon, label, run, key?, danger?, checked?} or 'rule' or a node. */
export function openMenu(button, title, items) {
  const sheet = isPhone();
  const menu = make('div', {className: 'menu', role: 'menu', 'aria-label': title}, ...items.map(menuItem));
  const dialog = make('dialog', {className: sheet ? 'bottom-sheet' : 'popover'}, menu);
  dialog.setAttribute('aria-label', title);
  closeOnBackdrop(dialog);
  menu.addEventListener('keydown', event => moveInMenu(menu, event));
  menu.addEventListener('menu-done', () => dialog.close());
  show(dialog);
  if (!sheet) place(dialog, button);
  return dialog;
}

function menuItem(item) {
  if (item === 'rule') return make('hr');
  if (item instanceof Node) return item;
  const role = item.checked === undefined ? 'menuitem' : 'menuitemradio';
  const entry = make('button', {type: 'button', role, className: item.danger ? 'danger' : ''}, icon(item.icon, 18), make('span', {className: 'grow'}, item.label));
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

/* Where, not how it looks: the style sheet draws at --x and --y. */
function place(dialog, button) {
  const at = button.getBoundingClientRect();
  const {width, height} = dialog.getBoundingClientRect();
  const below = at.bottom + 4 + height < innerHeight;
  const y = below ? at.bottom + 4 : Math.max(8, at.top - 4 - height);
  const x = Math.max(8, Math.min(innerWidth - width - 8, at.left + width > innerWidth - 8 ? at.right - width : at.left));
  dialog.style.setProperty('--x', `${Math.round(x)}px`);
  dialog.style.setProperty('--y', `${Math.round(y)}px`);
}

/** A short note at the bottom, 5 s unless pointed at; `after` runs when it goes by itself, `action.run` when its button is used. */
export function toast(text, {name = 'check', action = null, after = null} = {}) {
  const note = fill('toast', {icon: icon(name, 18), text});
  const end = done => {
    clearTimeout(timer);
    note.remove();
    if (done) done();
  };
  let timer = setTimeout(end, TOAST_TIME, after);
  note.addEventListener('pointerenter', () => clearTimeout(timer));
  note.addEventListener('focusin', () => clearTimeout(timer));
  note.addEventListener('pointerleave', () => { timer = setTimeout(end, TOAST_TIME, after); });
  setSlot(note, 'action', action && toastButton(action, end));
  /* The same words twice say nothing new. */
  for (const other of find('#toasts').children) if (!action && slot(other, 'text').textContent === text) other.hidden = true;
  find('#toasts').append(note);
}

function toastButton(action, end) {
  const button = make('button', {type: 'button'}, action.label);
  button.addEventListener('click', () => end(action.run));
  return button;
}

/** Shows, changes or takes away the banner called `id`; nothing as `content` takes it away. */
export function banner(id, content) {
  const old = document.getElementById(id);
  if (!content) return old && old.remove();
  if (!old) find('#banners').append(newBanner(id, content));
  else if (content.countdown !== undefined) setSlot(old, 'countdown', content.countdown);
}

function newBanner(id, {kind, icon: name, title, text, countdown, label, run}) {
  const button = make('button', {type: 'button', className: 'button small secondary'}, label);
  button.addEventListener('click', run);
  const element = fill('banner', {icon: icon(name, 20), title, text, countdown, action: button});
  element.id = id;
  element.classList.add(kind);
  return element;
}
