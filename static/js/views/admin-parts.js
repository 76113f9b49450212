/** What the parts of the administration are built of. */
import {get, post} from '../core/api.js';
import {copyText, fill, find, icon, make} from '../core/dom.js';
import {localTime} from '../core/state.js';
import {adminWords} from '../text/admin-words.js';
import {clockTime, dayKey, endTime} from '../text/measures.js';
import {words} from '../text/words.js';
import {openDialog} from './dialog.js';
import {toast} from './toast.js';

/** A time of the server's: the hour today, else the day as well. */
export const whenInWords = at => (dayKey(localTime(at)) === dayKey(Date.now()) ? clockTime : endTime)(localTime(at));

/** A box with a heading; `aside` stands at the end of the heading. */
export function card(title, content, aside = null) {
  const head = make('header', {}, make('h2', {}, title), aside);
  return make('section', {className: 'admin-card'}, title ? head : null, ...content);
}

export const paragraph = (text, className = 'muted') => make('p', {className}, text);

/** A button; `name` says more than its text to those who do not see where it stands. */
export function button(text, run, {look = 'secondary small', name = '', picture = ''} = {}) {
  const element = make('button', {type: 'button', className: `button ${look}`}, picture ? icon(picture, 17) : null, text);
  if (name) element.setAttribute('aria-label', name);
  element.addEventListener('click', () => run(element));
  return element;
}

/** A table; `columns` maps the class of each cell to its heading, and `rows` are elements `tr`. */
export function table(name, columns, rows) {
  const heads = Object.entries(columns).map(([key, text]) => make('th', {scope: 'col', className: key}, text));
  return make('div', {className: 'admin-table'}, make('table', {'aria-label': name},
    make('thead', {}, make('tr', {}, ...heads)), make('tbody', {}, ...rows)));
}

/** A row of a table: `cells` maps classes to contents; the first is the heading of the row. */
export function tableRow(cells) {
  return make('tr', {}, ...Object.entries(cells).map(([key, content], index) => (
    make(index ? 'td' : 'th', index ? {className: key} : {className: key, scope: 'row'}, ...[content].flat()))));
}

/** A row of a list: what it is, a line about it, and one button or several. */
export const listRow = (title, about, control = null) => fill('setting', {label: title, hint: about, control});

/** One of many from a list, as a field of a form. */
export function selectField(name, text, choices, {hint = '', chosen} = {}) {
  const options = choices.map(([value, label]) => make('option', {value, selected: String(value) === String(chosen)}, label));
  return make('label', {className: 'field'}, make('span', {}, text),
    make('span', {className: 'input select'}, make('select', {name}, ...options)), hint ? make('small', {className: 'hint'}, hint) : null);
}

/** Something to copy, with its button. */
export function copyField(text, label = adminWords.copy) {
  const copy = button(label, async () => {
    await copyText(text);
    toast(words.copied, {name: 'copy'});
  }, {picture: 'copy'});
  return make('div', {className: 'copy-field'}, make('code', {className: 'grow', dir: 'ltr'}, text), copy);
}

/** A QR code as a picture; the element is there at once. */
export function qrOfText(text, label) {
  const image = make('img', {className: 'qr', alt: adminWords.qrOf(label), width: 164, height: 164});
  drawQr(image, text);
  return image;
}

async function drawQr(image, text) {
  const headers = {'Content-Type': 'application/json'};
  const response = await fetch('/qr', {method: 'POST', credentials: 'same-origin', headers, body: JSON.stringify({text})}).catch(() => null);
  if (!response || !response.ok) return image.remove();
  image.src = URL.createObjectURL(await response.blob());
  return image.addEventListener('load', () => URL.revokeObjectURL(image.src), {once: true});
}

/** Shows what is shown once only. */
export function showOnce(title, text, content) {
  const dialog = openDialog(title, make('div', {className: 'stack show-once'}, paragraph(text), ...content,
    make('div', {className: 'form-buttons'}, button(adminWords.done, () => dialog.close(), {look: 'primary'}))), {className: 'wide'});
  find('.button', dialog).focus();
  return dialog;
}

/** Posts, and gives what came back together with what `GET /joining` says of coming here. */
export const postAndJoining = (path, body) => Promise.all([post(path, body), get('/joining')]);

/** An address of this server as others reach it, where they can. */
export const asOthersSee = (url, {address}) => address ? url.replace(/^https?:\/\/[^/]+/, address) : url;
