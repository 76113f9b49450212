/** Sending a form, and saying what was wrong with it. */
import {fill, find, make} from '../core/dom.js';
import {words} from '../text/words.js';

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

/** A form that stays where it is, so without a button to cancel; `submit` as in `submitted`. */
export function stayingForm(fields, button, submit) {
  const form = fill('form', {fields, submit: button});
  form.elements.cancel.remove();
  form.addEventListener('submit', event => {
    event.preventDefault();
    submitted(form, submit);
  });
  return form;
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
