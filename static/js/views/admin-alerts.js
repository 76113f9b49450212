/** The administration: sending an alert, and calling the roll. */
import {ApiError, get, post, remove} from '../core/api.js';
import {find, icon, make} from '../core/dom.js';
import {state, userName} from '../core/state.js';
import {adminWords as words} from '../text/admin-words.js';
import {button, card, listRow, paragraph, whenInWords} from './admin-parts.js';
import {avatar} from './avatar.js';
import {ask} from './dialog.js';
import {stayingForm} from './form.js';
import {attempt} from './toast.js';

const LONGEST = 1000;
const FOLLOWED = ['alert', 'acknowledged', 'user', 'snapshot'];
/* Answers come in crowds: one look at the server for all within this time (ms). */
const PAUSE = 200;
const HERE = ['active', 'idle', 'dnd'];

/** Fills the part about alerts; the roll follows each answer. */
export function drawAlerts(body) {
  const page = {
    chosen: null, timer: 0, listed: '', called: null, roll: make('div'), list: make('div'), spoken: make('p', {className: 'visually-hidden', role: 'status'}),
  };
  body.append(card(words.sendAlert, [paragraph(words.alertLead, ''), alertForm(page), make('p', {className: 'admin-warning'}, icon('info', 17), words.alertWarning)]),
    page.roll, card(words.earlier, [page.list]), page.spoken);
  fetchAlerts(page);
  return topic => {
    if (FOLLOWED.includes(topic)) later(page);
    if (topic === 'presence' && page.called) drawRoll(page);
  };
}

function later(page) {
  clearTimeout(page.timer);
  page.timer = setTimeout(fetchAlerts, PAUSE, page);
}

function alertForm(page) {
  const text = make('textarea', {name: 'text', rows: 2, maxLength: LONGEST, dir: 'auto'});
  const form = stayingForm([
    make('label', {className: 'field'}, make('span', {}, words.alertText), make('span', {className: 'input lines'}, text)),
    make('label', {className: 'admin-check'}, make('input', {type: 'checkbox', name: 'drill'}), make('span', {}, words.alertDrill, make('small', {}, words.alertDrillHint))),
  ], words.sendAlert, values => send(page, form, values.text.trim(), Boolean(values.drill)));
  find('.button.primary', form).className = 'button danger';
  return form;
}

async function send(page, form, text, drill) {
  if (!text) throw new ApiError(400, {error: words.alertMissing, field: 'text'});
  if (!await ask(words.alertQuestion(drill), text, words.alertNow(drill), {danger: !drill})) return;
  const {alert} = await post('/admin/alerts', {text, drill});
  page.chosen = alert.id;
  form.reset();
  await fetchAlerts(page);
}

async function fetchAlerts(page) {
  const answer = await attempt(() => get('/admin/alerts'));
  if (!answer) return;
  const going = answer.alerts.find(alert => !alert.ended_at);
  const chosen = answer.alerts.find(alert => alert.id === page.chosen) || going;
  page.chosen = chosen ? chosen.id : null;
  drawList(page, answer.alerts);
  const roll = chosen && await attempt(() => get(`/admin/alerts/${chosen.id}`));
  if (roll && page.chosen === chosen.id) showRoll(page, roll);
}

/* What did not change stays, and with it the focus. */
function drawList(page, alerts) {
  const listed = JSON.stringify(alerts);
  if (listed === page.listed) return;
  page.listed = listed;
  page.list.replaceChildren(...alerts.map(alert => alertRow(page, alert)));
  if (!alerts.length) page.list.append(paragraph(words.noAlerts));
}

function alertRow(page, alert) {
  const tags = [alert.drill ? words.isDrill : '', alert.ended_at ? '' : words.isGoing].filter(Boolean).map(text => make('span', {className: 'tag'}, text));
  return listRow(alert.text, words.alertAbout(userName(alert.created_by), whenInWords(alert.created_at)), [...tags, button(words.rollCall, () => {
    page.chosen = alert.id;
    fetchAlerts(page);
  }, {name: words.showRollCall(alert.text)})]);
}

/* The buttons stay while the lists below them change. */
function showRoll(page, roll) {
  const before = page.called;
  page.called = roll;
  if (!before || before.alert.id !== roll.alert.id || before.alert.ended_at !== roll.alert.ended_at) page.roll.replaceChildren(rollCard(page));
  drawRoll(page);
}

function rollCard(page) {
  const {alert} = page.called;
  const buttons = [button(words.export, () => save(page.called), {picture: 'download'})];
  if (!alert.ended_at) buttons.push(button(words.endAlert, () => end(page, alert), {look: 'danger small'}));
  const box = card(words.rollCall, [
    make('p', {className: 'roll-text', dir: 'auto'}, alert.drill ? make('span', {className: 'tag owner'}, words.isDrill) : null, ' ', alert.text),
    make('p', {className: 'roll-count'}), make('progress', {'aria-label': words.rollCall}), make('div', {className: 'roll'}),
  ], make('span', {className: 'admin-buttons'}, ...buttons));
  box.classList.add('roll-card');
  return box;
}

function drawRoll(page) {
  const {acknowledged, waiting, times} = page.called;
  const all = acknowledged.length + waiting.length;
  const text = words.answered(acknowledged.length, all);
  find('.roll-count', page.roll).textContent = text;
  if (page.spoken.textContent !== text) page.spoken.textContent = text;
  Object.assign(find('progress', page.roll), {max: all, value: acknowledged.length});
  find('.roll', page.roll).replaceChildren(
    rollList(words.stillWaiting, waiting, id => presenceInWords(state.users.get(id))),
    rollList(words.haveSeen, acknowledged, (id, index) => words.seenAt(whenInWords(times[index]))));
}

function rollList(title, ids, say) {
  const rows = ids.map((id, index) => make('li', {}, avatar(state.users.get(id) || {id, username: ''}, 26, {presence: true}),
    make('b', {className: 'ellipsis grow', dir: 'auto'}, userName(id)), make('small', {}, say(id, index))));
  return make('section', {}, make('h3', {}, `${title} (${ids.length})`), make('ul', {}, ...rows));
}

function presenceInWords(user) {
  if (!user) return '';
  if (HERE.includes(user.presence)) return words.hereNowOne;
  return user.last_seen ? words.lastSeen(whenInWords(user.last_seen)) : '';
}

async function end(page, alert) {
  if (!await ask(words.endQuestion, words.endText, words.endAlert)) return;
  await attempt(() => remove(`/admin/alerts/${alert.id}`));
  await fetchAlerts(page);
}

/* A table that spreadsheets open; the mark in front makes them read it as UTF-8. */
function save({alert, acknowledged, waiting, times}) {
  const seen = acknowledged.map((id, index) => [...who(id), words.exportYes, new Date(times[index]).toISOString()]);
  const rows = [[alert.text, new Date(alert.created_at).toISOString()], words.exportColumns, ...seen, ...waiting.map(id => [...who(id), words.exportNo, ''])];
  const text = `\uFEFF${rows.map(row => row.map(quoted).join(',')).join('\r\n')}\r\n`;
  const url = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  make('a', {href: url, download: words.exportName(alert.id, alert.drill)}).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

const who = id => [userName(id), (state.users.get(id) || {username: ''}).username];

/* RFC 4180; a spreadsheet would take what begins with a sign for a formula. */
const quoted = value => `"${(/^[=+\-@\t\r]/.test(value) ? `'${value}` : value).replace(/"/g, '""')}"`;
