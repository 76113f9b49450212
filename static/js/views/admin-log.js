/** The administration: the audit log, by event, by person, by words. */
import {get} from '../core/api.js';
import {find, make} from '../core/dom.js';
import {localTime} from '../core/state.js';
import {adminWords as words} from '../text/admin-words.js';
import {fullTime} from '../text/measures.js';
import {button, card, paragraph, table, tableRow, whenInWords} from './admin-parts.js';
import {field} from './dialog.js';
import {attempt} from './toast.js';

/* What is typed is looked for after this time (ms). */
const PAUSE = 300;
const EVENTS = [
  'login', 'logout', 'signup', 'lockout', 'password-change', 'settings', 'account-add', 'account-change', 'account-delete', 'session-revoke',
  'reset-make', 'reset-use', 'invite-make', 'invite-use', 'invite-revoke', 'token-make', 'token-revoke', 'bot-make', 'bot-token', 'hook-make',
  'hook-remove', 'alert', 'alert-end', 'backup', 'clean', 'stop', 'send',
];

/** Fills the part with the log. */
export function drawLog(body) {
  const event = field('event', words.logEvent, {autocomplete: 'off', placeholder: words.everyEvent});
  find('input', event).setAttribute('list', 'audit-events');
  const filter = make('form', {className: 'admin-form', role: 'search'}, event,
    field('user', words.logUser, {autocomplete: 'off'}), field('q', words.logWords, {type: 'search', autocomplete: 'off'}),
    make('datalist', {id: 'audit-events'}, ...EVENTS.map(value => make('option', {value}))));
  const page = {filter, timer: 0, number: 1, asked: 0, rows: [], list: make('div'), spoken: make('p', {className: 'visually-hidden', role: 'status'})};
  const look = () => {
    clearTimeout(page.timer);
    page.timer = setTimeout(fetchEntries, PAUSE, page, 1);
  };
  filter.addEventListener('input', look);
  filter.addEventListener('submit', submit => { submit.preventDefault(); look(); });
  body.append(card(words.log, [paragraph(words.logLead), filter, page.list, page.spoken]));
  fetchEntries(page, 1);
}

async function fetchEntries(page, number) {
  const asked = page.asked += 1;
  const query = new URLSearchParams({page: number, ...Object.fromEntries(new FormData(page.filter))});
  const answer = await attempt(() => get(`/admin/audit?${query}`));
  /* Only the last question is answered. */
  if (!answer || asked !== page.asked) return;
  page.rows = [...(number > 1 ? page.rows : []), ...answer.entries];
  draw(page, number, answer.more);
}

function draw(page, number, more) {
  page.spoken.textContent = words.entries(page.rows.length);
  if (!page.rows.length) return page.list.replaceChildren(paragraph(words.nothingLogged));
  page.list.replaceChildren(table(words.log, words.logColumns, page.rows.map(entryRow)));
  if (more) page.list.append(button(words.older, () => fetchEntries(page, number + 1)));
}

function entryRow({at, event, outcome, user, src, details}) {
  const time = make('time', {dateTime: new Date(at).toISOString(), title: fullTime(localTime(at))}, whenInWords(at));
  const failed = outcome === 'success' ? null : make('span', {className: 'tag closed'}, words.failure);
  return tableRow({
    time, event: [event || '', ' ', failed].filter(Boolean), user: user || '', source: src || '',
    details: Object.entries(details).map(([name, value]) => `${name}: ${value}`).join(', '),
  });
}
