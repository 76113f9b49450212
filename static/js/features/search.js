/** Searching all that one may read: a field, filters, and cards that lead to what was found. */
import {ApiError, get} from '../core/api.js';
import {find, icon, isComposing, make} from '../core/dom.js';
import {listen, openChannel} from '../core/state.js';
import {hitsOf} from '../text/hits.js';
import {laterWords} from '../text/later-words.js';
import {words} from '../text/words.js';
import {cardList, messageCard, noCards} from '../views/cards.js';
import {openPanel, openPanelName} from '../views/panel.js';

const NAME = 'search';
const PAUSE = 250;

/* `turn` tells an answer from one that a later question has overtaken. */
const search = {query: '', messages: [], more: false, page: 0, turn: 0, timer: 0};

const field = make('input', {type: 'search', placeholder: words.searchMessages, 'aria-label': words.searchMessages, maxLength: 500, autocomplete: 'off', enterKeyHint: 'search'});
const filters = make('div', {className: 'filters', role: 'group', 'aria-label': laterWords.searchFiltersTitle});
const note = make('p', {className: 'found', role: 'status'});
const list = cardList(field);
const body = make('div', {className: 'search'}, make('span', {className: 'input'}, icon('search', 17), field), filters, note, list);

document.addEventListener('click', event => {
  const button = event.target.closest('#search');
  if (button) open(button);
});
listen('panel', name => find('#search').setAttribute('aria-expanded', String(name === NAME)));
for (const topic of ['route', 'channel', 'snapshot']) listen(topic, () => openPanelName() === NAME && drawFilters());
/* Another person finds nothing of this one's search. */
listen('signed-out', () => { field.value = ''; ask(); });

/* The button may carry what it is to ask for. */
function open(button) {
  if (button.dataset.query) field.value = button.dataset.query;
  drawFilters();
  if (!search.query) draw();
  openPanel(NAME, {title: words.search, body});
  field.focus();
  if (!button.dataset.query) return field.select();
  delete button.dataset.query;
  ask();
}

/* -- filters: words of the query itself */

function drawFilters() {
  const channel = openChannel();
  const inChannel = channel && channel.name && {token: `in:#${channel.name}`, text: laterWords.searchFilters.in(channel.name)};
  const all = [
    inChannel, {token: 'from:', text: laterWords.searchFilters.from},
    {token: 'has:file', text: laterWords.searchFilters.file}, {token: 'has:link', text: laterWords.searchFilters.link},
  ];
  filters.replaceChildren(...all.filter(Boolean).map(filterChip));
}

function filterChip({token, text}) {
  const chip = make('button', {type: 'button', className: 'filter', 'aria-pressed': String(tokens().some(one => isToken(one, token)))}, text);
  chip.addEventListener('click', () => toggleFilter(token));
  return chip;
}

const tokens = () => field.value.split(/\s+/).filter(Boolean);
const isToken = (one, token) => token.endsWith(':') ? one.startsWith(token) : one === token;

function toggleFilter(token) {
  const others = tokens().filter(one => !isToken(one, token));
  const there = others.length < tokens().length;
  field.value = [...others, ...(there ? [] : [token])].join(' ') + (there || token.endsWith(':') ? '' : ' ');
  field.focus();
  ask();
}

/* -- asking */

field.addEventListener('input', () => {
  clearTimeout(search.timer);
  search.timer = setTimeout(ask, PAUSE);
});

field.addEventListener('keydown', async event => {
  if (isComposing(event) || !['Enter', 'ArrowDown'].includes(event.key)) return;
  event.preventDefault();
  if (event.key === 'Enter') await ask();
  find('.card', list)?.focus();
});

/* What is asked already is not asked again: Enter comes after the pause as well as before. */
function ask() {
  clearTimeout(search.timer);
  drawFilters();
  const query = field.value.trim().replace(/(?<!\S)(?:from|in|has|before|after):(?!\S)/g, '').trim();
  if (query === search.query) return search.asking;
  Object.assign(search, {query, messages: [], more: false, page: 0, turn: search.turn + 1});
  search.asking = query ? askPage() : draw();
  return search.asking;
}

async function askPage() {
  const {turn, query, page} = search;
  try {
    const answer = await get(`/search?q=${encodeURIComponent(query)}&page=${page + 1}`);
    if (turn !== search.turn) return;
    Object.assign(search, {messages: [...search.messages, ...answer.messages], more: answer.more, page: page + 1});
    draw();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (turn === search.turn) showFailure(error);
  }
}

function showFailure(error) {
  search.query = null;
  note.textContent = '';
  list.replaceChildren(noCards(words.failed, error.message || words.noServer));
}

function draw() {
  const {query, messages, more} = search;
  note.textContent = messages.length ? laterWords.foundMessages(messages.length, more) : '';
  if (!query) return list.replaceChildren(make('p', {className: 'muted'}, laterWords.searchHelp));
  if (!messages.length) return list.replaceChildren(noCards(laterWords.nothingFound(query), laterWords.searchHelp));
  const held = list.contains(document.activeElement) && list.childElementCount - 1;
  const hits = hitsOf(query);
  list.replaceChildren(...messages.map(message => messageCard(message, {hits})), ...(more ? [moreButton()] : []));
  if (held) list.children[held].focus();
}

function moreButton() {
  const button = make('button', {type: 'button', className: 'button secondary small more-cards'}, laterWords.showMore);
  button.addEventListener('click', askPage, {once: true});
  return button;
}
