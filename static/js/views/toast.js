/** Short notes at the bottom, banners at the top, and the one way to say that something failed. */
import {ApiError} from '../core/api.js';
import {fill, find, findAll, icon, make, setSlot, slot} from '../core/dom.js';
import {words} from '../text/words.js';

const TOAST_TIME = 5000;

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
  for (const kind of ['pointerleave', 'focusout']) note.addEventListener(kind, () => {
    clearTimeout(timer);
    timer = setTimeout(end, TOAST_TIME, after);
  });
  setSlot(note, 'action', action && toastButton(action, end));
  /* The same words twice say nothing new. */
  for (const other of findAll('.toast')) if (!action && slot(other, 'text').textContent === text) other.hidden = true;
  place(note);
}

/* Behind a dialog nothing is seen or read out, so the note lies on it; when the dialog goes first, the note stays. */
function place(note) {
  const dialog = findAll('dialog[open]').pop();
  note.classList.toggle('over-dialog', Boolean(dialog));
  (dialog || find('#toasts')).append(note);
  if (dialog) dialog.addEventListener('close', () => note.parentElement === dialog && place(note), {once: true});
}

function toastButton(action, end) {
  const button = make('button', {type: 'button'}, action.label);
  button.addEventListener('click', () => end(action.run));
  return button;
}

/** Runs something that asks the server; a refusal is said in a toast and gives null. */
export async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message || words.noServer, {name: 'warn'});
    return null;
  }
}

/** What was to be fetched with its first use; where it cannot be, a toast says so and this gives null. */
export const fetched = promise => promise.catch(() => {
  toast(words.noServer, {name: 'unplug'});
  return null;
});

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
