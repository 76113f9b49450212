/** Choosing where a message is passed on to, and what one says with it. */
import {post} from '../core/api.js';
import {fill, find, icon, isComposing, make} from '../core/dom.js';
import {send} from '../core/outbox.js';
import {addressOf, apply, goTo, mayWrite, state, userName} from '../core/state.js';
import {inboxWords} from '../text/inbox-words.js';
import {plainLine} from '../text/markup.js';
import {quoting} from '../text/quoting.js';
import {words} from '../text/words.js';
import {byName, destinations, drawPlace, idOf} from './destinations.js';
import {openForm} from './dialog.js';
import {toast} from './toast.js';

const MOST_PLACES = 50;
const PREVIEW = 200;

/** Opens the dialog that passes a message on. */
export function openForward(message) {
  const picker = placePicker();
  const comment = make('textarea', {name: 'comment', rows: 2, dir: 'auto', 'aria-label': inboxWords.comment, placeholder: inboxWords.comment});
  const fields = [preview(message), picker.element, make('span', {className: 'input'}, comment), warning(message)].filter(Boolean);
  const dialog = openForm(inboxWords.forwardMessage, fields, inboxWords.forward, async values => {
    const place = picker.chosen();
    if (place) await forward(message, place, values.comment);
  });
  dialog.classList.add('forward');
}

function preview(message) {
  const text = plainLine(message.text).slice(0, PREVIEW) || (message.files || []).map(file => file.name).join(', ');
  return fill('quote', {'quote-name': userName(message.user_id), 'quote-text': text});
}

function warning({channel_id: channelId}) {
  const channel = state.channels.get(channelId);
  return channel && channel.kind === 'public' ? null : make('p', {className: 'hint'}, inboxWords.fromPrivate);
}

async function forward(message, place, comment) {
  const channel = place.channel || await openDirect(place.userId);
  const source = state.channels.get(message.channel_id);
  const text = quoting({
    comment, text: message.text, name: userName(message.user_id), address: addressOf(message.channel_id, message.id),
    place: source && source.kind === 'public' ? inboxWords.placeOfOriginal(source.name) : inboxWords.original,
    limit: state.settings.max_message_length || 10000,
  });
  send({channel_id: channel.id, text, files: message.files || []});
  toast(inboxWords.forwardedTo(place.name), {name: 'forward', action: {label: words.open, run: () => goTo(addressOf(channel.id))}});
}

async function openDirect(userId) {
  const {channel} = await post('/direct', {users: [userId]});
  apply({kind: 'channel', value: {...channel, joined: true}});
  return channel;
}

/* -- where to */

const mayBeWrittenTo = place => place.channel ? mayWrite(place.channel) : place.kind === 'person';

/* A field and a list of which one is marked; what is marked is chosen. */
function placePicker() {
  const field = make('input', {
    type: 'text', role: 'combobox', autocomplete: 'off', enterKeyHint: 'send', 'aria-expanded': 'true', 'aria-controls': 'forward-places',
    'aria-label': inboxWords.forwardTo, placeholder: inboxWords.forwardTo,
  });
  const list = make('div', {id: 'forward-places', className: 'forward-places', role: 'listbox', 'aria-label': inboxWords.forwardTo});
  const pick = {field, list, places: destinations([]).filter(mayBeWrittenTo), shown: [], at: 0};
  field.addEventListener('input', () => { pick.at = 0; draw(pick); });
  field.addEventListener('keydown', event => onKey(event, pick));
  list.addEventListener('mousedown', event => event.preventDefault());
  list.addEventListener('click', event => mark(pick, pick.shown.findIndex(place => idOf(place) === (event.target.closest('[role="option"]') || {}).id)));
  draw(pick);
  const element = make('div', {className: 'stack'}, make('span', {className: 'input'}, icon('search', 17), field), list);
  return {element, chosen: () => pick.shown[pick.at]};
}

function draw(pick) {
  const query = pick.field.value.trim();
  pick.shown = byName(query, pick.places).slice(0, MOST_PLACES);
  pick.list.replaceChildren(...pick.shown.map(place => drawPlace(place, query)));
  if (!pick.shown.length) pick.list.append(make('p', {className: 'muted'}, inboxWords.nowhereToForward(query)));
  mark(pick, 0);
}

function mark(pick, at) {
  const place = pick.shown[at];
  if (!place) return pick.field.removeAttribute('aria-activedescendant');
  pick.at = at;
  for (const option of pick.list.children) option.setAttribute('aria-selected', String(option.id === idOf(place)));
  pick.field.setAttribute('aria-activedescendant', idOf(place));
  const option = find('[aria-selected="true"]', pick.list);
  if (option) option.scrollIntoView({block: 'nearest'});
}

function onKey(event, pick) {
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
  if (!step || isComposing(event) || !pick.shown.length) return;
  event.preventDefault();
  mark(pick, (pick.at + step + pick.shown.length) % pick.shown.length);
}
