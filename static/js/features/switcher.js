/** The quick switcher: a few letters lead to a channel, a person, or something to do. */
import {get} from '../core/api.js';
import {find, icon, isComposing, label, make} from '../core/dom.js';
import {choosePreference, preference} from '../core/preferences.js';
import {listen, tell} from '../core/state.js';
import {keysWords} from '../text/keys-words.js';
import {words} from '../text/words.js';
import {actions, byName, destinations, drawPlace, idOf, newAction} from '../views/destinations.js';
import {closeOnBackdrop, showModal} from '../views/dialog.js';
import {showRows} from '../views/rows.js';
import {keyName, showShortcuts} from '../views/shortcuts.js';
import {attempt} from '../views/toast.js';

/* Few where actions follow that fit too. */
const MOST_PLACES = 40;
const MOST_FITTING = 6;
const MOST_ACTIONS = 6;
/* A first letter that says what kind of thing is meant. */
const KINDS = {'#': 'channel', '@': 'person', '>': 'action'};
const REDRAW_ON = ['snapshot', 'channel', 'mine', 'message', 'user', 'presence'];

/* The one switcher that may be open: its parts, what it shows, the key of what is marked. */
const switcher = {dialog: null, field: null, list: null, count: null, others: [], shown: [], marked: ''};

document.addEventListener('click', event => event.target.closest('#jump') && open());
for (const topic of REDRAW_ON) listen(topic, () => switcher.dialog && draw());

async function open() {
  if (switcher.dialog) return;
  build();
  draw();
  const answer = await attempt(() => get('/channels'));
  if (!answer || !switcher.dialog) return;
  switcher.others = answer.channels.filter(channel => !channel.joined && !channel.archived);
  draw();
}

function build() {
  const field = make('input', {
    type: 'text', role: 'combobox', autocomplete: 'off', spellcheck: false, placeholder: words.jump, enterKeyHint: 'go',
    'aria-label': keysWords.jumpTo, 'aria-expanded': 'true', 'aria-controls': 'jump-list', 'aria-autocomplete': 'list',
  });
  const list = make('div', {id: 'jump-list', className: 'jump-list', role: 'listbox', 'aria-label': keysWords.jumpTo});
  const count = make('p', {className: 'visually-hidden', role: 'status'});
  const close = make('button', {type: 'button', className: 'icon-button close'}, icon('x', 20));
  label(close, words.close);
  const head = make('div', {className: 'jump-head'}, icon('search', 19), field, close);
  const dialog = make('dialog', {className: 'switcher', 'aria-label': keysWords.jumpTo}, head, list, count, hints());
  Object.assign(switcher, {dialog, field, list, count, others: [], marked: ''});
  wire(close);
  showModal(dialog);
  field.focus();
}

const hints = () => make('p', {className: 'jump-foot', 'aria-hidden': 'true'},
  ...keysWords.hints.map(([keys, text]) => make('span', {}, make('b', {}, keys), ` ${text}`)));

function wire(close) {
  const {dialog, field, list} = switcher;
  close.addEventListener('click', () => dialog.close());
  closeOnBackdrop(dialog);
  dialog.addEventListener('close', () => { switcher.dialog = null; });
  field.addEventListener('input', () => { switcher.marked = ''; draw(); list.scrollTop = 0; });
  dialog.addEventListener('keydown', onKey);
  /* The field keeps the focus. */
  list.addEventListener('mousedown', event => event.preventDefault());
  list.addEventListener('click', event => {
    const option = event.target.closest('[role="option"]');
    if (option) choose(switcher.shown.find(place => idOf(place) === option.id));
  });
}

const KEYS = {
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  'Ctrl+K': event => event.repeat || switcher.dialog.close(),
  Enter: event => event.target === switcher.field ? choose(switcher.shown[markedAt()]) : event.target.click(),
};

function onKey(event) {
  const run = !isComposing(event) && KEYS[keyName(event)];
  if (!run) return;
  event.preventDefault();
  run(event);
}

const markedAt = () => Math.max(0, switcher.shown.findIndex(place => place.key === switcher.marked));

function move(step) {
  const {shown} = switcher;
  if (!shown.length) return;
  switcher.marked = shown[(markedAt() + step + shown.length) % shown.length].key;
  mark();
}

/* First the focus goes back to where it was, then on to what was chosen. */
function choose(place) {
  if (!place) return;
  switcher.dialog.addEventListener('close', place.go, {once: true});
  switcher.dialog.close();
}

/* -- what is shown */

function draw() {
  const {list, count} = switcher;
  const query = asked();
  const shown = fittingPlaces(query);
  const groups = [...new Set(shown.map(place => place.group))];
  switcher.shown = groups.flatMap(group => shown.filter(place => place.group === group));
  const rows = groups.map(group => groupRow(group, switcher.shown.filter(place => place.group === group), query.text));
  showRows(list, rows.length ? rows : [lookRow('nothing', make('p', {className: 'muted'}, keysWords.noResults(query.text)))]);
  count.textContent = keysWords.results(shown.length);
  mark();
}

/* What is written, as {kind, text}. */
function asked() {
  const {value} = switcher.field;
  const kind = KINDS[value[0]] || '';
  return {kind, text: (kind ? value.slice(1) : value).trim()};
}

function fittingPlaces({kind, text}) {
  const wanted = place => !kind || place.kind === kind;
  const places = byName(text, destinations(switcher.others).filter(wanted)).slice(0, text && !kind ? MOST_FITTING : MOST_PLACES);
  const acts = byName(text, [...actions(), ...ownActions()].filter(wanted));
  const grouped = text ? places.map(place => ({...place, group: 'all'})) : places;
  return [...grouped, ...(kind ? acts : acts.slice(0, MOST_ACTIONS)), ...(text && !kind ? [searchAction(text)] : [])];
}

function ownActions() {
  const shown = preference('theme', matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  const theme = shown === 'dark' ? 'light' : 'dark';
  return [
    newAction('settings', 'gear', words.settings, () => tell('show-settings')),
    newAction('shortcuts', 'key', keysWords.shortcuts, showShortcuts),
    newAction('theme', theme === 'dark' ? 'moon' : 'sun', keysWords.useTheme[theme], () => choosePreference('theme', theme), keysWords.theme),
  ];
}

function searchAction(text) {
  return newAction('search-for', 'search', keysWords.searchFor(text), () => {
    find('#search').dataset.query = text;
    find('#search').click();
  });
}

function groupRow(name, places, query) {
  const id = `jump-group-${name}`;
  const title = make('div', {id, className: 'jump-group'}, keysWords.groups[name]);
  const rows = [lookRow(id, title), ...places.map(place => lookRow(place.key, drawPlace(place, query)))];
  return {key: name, stamp: name, draw: () => make('div', {role: 'group', 'aria-labelledby': id}), dress: group => showRows(group, rows)};
}

/* What looks the same stays: an option that is drawn anew while a pointer is down on it swallows the click. */
const lookRow = (key, element) => ({key, stamp: element.cloneNode(true), draw: () => element});

function mark() {
  const {list, field, shown} = switcher;
  const marked = shown[markedAt()];
  for (const option of list.querySelectorAll('[role="option"]')) option.setAttribute('aria-selected', String(option.id === (marked && idOf(marked))));
  if (!marked) return field.removeAttribute('aria-activedescendant');
  switcher.marked = marked.key;
  field.setAttribute('aria-activedescendant', idOf(marked));
  document.getElementById(idOf(marked)).scrollIntoView({block: 'nearest'});
}
