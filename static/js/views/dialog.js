/** Dialogs, questions and forms. */
import {fill, find, make} from '../core/dom.js';
import {words} from '../text/words.js';
import {submitted} from './form.js';

/** Shows a modal dialog and gives it back; it removes itself when closed. `locked` cannot be dismissed. */
export function openDialog(title, body, {locked = false, className = ''} = {}) {
  const dialog = fill('dialog', {title, body});
  if (className) dialog.classList.add(className);
  const close = find('.close', dialog);
  if (locked) close.remove();
  else close.addEventListener('click', () => dialog.close());
  dialog.addEventListener('cancel', event => locked && event.preventDefault());
  if (!locked) closeOnBackdrop(dialog);
  return showModal(dialog, locked);
}

/** Opens a `<dialog>` over the page; it removes itself when closed and gives the focus back. */
export function showModal(dialog, locked = false) {
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

/** A press beside the dialog closes it. */
export function closeOnBackdrop(dialog) {
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

/** One of few, as radio buttons; `labels` maps the values to words. */
export function radios(name, legend, labels, chosen) {
  const choices = Object.entries(labels).map(([value, text]) => (
    make('label', {}, make('input', {type: 'radio', name, value, checked: value === chosen}), make('span', {}, text))));
  return make('fieldset', {className: 'choices'}, make('legend', {}, legend), ...choices);
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
  const first = find('input:not([type="hidden"], [hidden])', form);
  if (first) first.select();
  return dialog;
}
