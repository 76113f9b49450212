/** Saying what one is up to: an emoji, a few words, and when it ends. */
import {ApiError, patch} from '../core/api.js';
import {find, label, make} from '../core/dom.js';
import {apply, localTime, serverTime, state} from '../core/state.js';
import {profileWords} from '../text/profile-words.js';
import {words} from '../text/words.js';
import {NO_EMOJI, statusOf} from './avatar.js';
import {field, openForm} from './dialog.js';
import {pickEmoji} from './emoji-picker.js';

const MINUTE = 60 * 1000;
const LONGEST = 100;

/** When something ends by the server's clock that ends after so many minutes, `today`, or `never`: ms, or null. */
export function endAfter(end) {
  if (end === 'never') return null;
  return serverTime(end === 'today' ? new Date().setHours(24, 0, 0, 0) : Date.now() + Number(end) * MINUTE);
}

/** Saves a status, or takes it away. */
export async function saveStatus(status) {
  const {user} = await patch('/me', {status});
  apply({kind: 'user', value: user});
}

/** Opens the form. */
export function openStatusForm() {
  const status = statusOf(state.me) || {emoji: '', text: '', until: null};
  const dialog = openForm(profileWords.statusTitle, [
    make('div', {className: 'status-line'}, emojiButton(status.emoji), field('text', profileWords.statusText, {value: status.text, maxLength: LONGEST})),
    suggestions(),
    endField(status.until),
    field('at', profileWords.endsAt, {type: 'datetime-local', value: asLocal(status.until === null ? Date.now() + 60 * MINUTE : localTime(status.until))}),
  ], words.save, submit);
  dialog.classList.add('wide');
  find('.field:has([name="at"])', dialog).classList.add('status-at');
  find('.suggestions', dialog).addEventListener('click', event => suggest(find('form', dialog), event.target.closest('button')));
  find('select', dialog).addEventListener('change', () => showChosen(find('form', dialog)));
  showChosen(find('form', dialog));
}

/* A hidden field carries what the button shows. */
function emojiButton(emoji) {
  const input = make('input', {type: 'hidden', name: 'emoji'});
  const button = make('button', {type: 'button', className: 'status-emoji'});
  button.addEventListener('click', () => pickEmoji(button, chosen => showEmoji(button, input, chosen)));
  showEmoji(button, input, emoji);
  return make('span', {}, button, input);
}

function showEmoji(button, input, emoji) {
  input.value = emoji;
  button.textContent = emoji || NO_EMOJI;
  label(button, profileWords.statusEmoji(emoji || NO_EMOJI));
}

function suggestions() {
  const buttons = profileWords.suggested.map(({emoji, text, ends}) => (
    make('button', {type: 'button', 'data-emoji': emoji, 'data-text': text, 'data-ends': ends},
      make('span', {className: 'status-mark'}, emoji), make('span', {className: 'grow'}, text), make('small', {}, profileWords.lasting[ends]))));
  return make('div', {className: 'suggestions', role: 'group', 'aria-label': profileWords.suggestions}, ...buttons);
}

function suggest(form, button) {
  if (!button) return;
  const {emoji, text, ends} = button.dataset;
  showEmoji(find('.status-emoji', form), form.elements.emoji, emoji);
  form.elements.text.value = text;
  form.elements.ends.value = ends;
  showChosen(form);
}

function endField(until) {
  const options = Object.entries(profileWords.endsAfter).map(([value, text]) => make('option', {value}, text));
  const select = make('select', {name: 'ends'}, ...options);
  select.value = until === null ? 'never' : 'chosen';
  return make('label', {className: 'field'}, make('span', {}, profileWords.ends), make('span', {className: 'input select'}, select));
}

function showChosen(form) {
  find('.status-at', form).hidden = form.elements.ends.value !== 'chosen';
}

/* The form of a date and a time that the browser's own field takes: local, to the minute. */
function asLocal(at) {
  const shifted = at - new Date(at).getTimezoneOffset() * MINUTE;
  return new Date(shifted).toISOString().slice(0, 16);
}

function submit({emoji, text, ends, at}) {
  if (!emoji && !text.trim()) return saveStatus(null);
  const until = ends === 'chosen' ? serverTime(new Date(at).getTime()) : endAfter(ends);
  if (until !== null && !(localTime(until) > Date.now())) throw new ApiError(400, {error: profileWords.endMissing, field: 'at'});
  return saveStatus({emoji, text: text.trim(), until});
}
