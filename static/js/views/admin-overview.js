/** The administration at a glance: the stick, the last backup, who is here, and how to stop. */
import {get, post} from '../core/api.js';
import {find, icon, make} from '../core/dom.js';
import {holdFeed} from '../core/feed.js';
import {goTo, serverNow, state} from '../core/state.js';
import {adminWords as words} from '../text/admin-words.js';
import {words as pageWords} from '../text/words.js';
import {button, card, paragraph, whenInWords} from './admin-parts.js';
import {backupCard, gauge} from './admin-storage.js';
import {ask, openDialog} from './dialog.js';
import {attempt} from './toast.js';

/* How often to look whether the server has stopped (ms). */
const LOOK_AGAIN = 500;
const COUNTED = ['user', 'presence', 'snapshot'];

/** Fills the overview; what changes about people is shown at once. */
export function drawOverview(body) {
  fillOverview(body);
  return (topic, value) => {
    if (topic === 'notice' && value.code === 'waiting') fillOverview(body);
    if (COUNTED.includes(topic) && find('.here-now', body)) find('.here-now', body).replaceChildren(hereNow());
  };
}

async function fillOverview(body) {
  const found = await attempt(() => Promise.all(['storage', 'backups', 'users', 'doctor'].map(name => get(`/admin/${name}`))));
  if (!found) return body.replaceChildren(paragraph(pageWords.noServer));
  const [storage, backups, {users}, {findings}] = found;
  return body.replaceChildren(...waitingNotice(users), gauge(storage), backupCard(backups), runningCard(storage), peopleCard(), checksCard(findings));
}

function waitingNotice(users) {
  const waiting = users.filter(user => !user.approved).length;
  if (!waiting) return [];
  return [make('p', {className: 'admin-warning'}, icon('userplus', 17), make('span', {className: 'grow'}, words.waitingCount(waiting)),
    button(words.showPeople, () => goTo('#/admin/people')))];
}

function runningCard({started_at: at}) {
  return card(words.running, [
    paragraph(words.runningFor((serverNow() - at) / 1000), ''), paragraph(words.runningSince(whenInWords(at))), paragraph(words.version(state.server.version)),
    make('div', {className: 'admin-buttons'}, button(words.stop, stop, {picture: 'plug'})),
  ]);
}

function peopleCard() {
  return card(words.people, [
    make('p', {className: 'here-now'}, hereNow()), make('div', {className: 'admin-buttons'}, button(words.showPeople, () => goTo('#/admin/people'), {picture: 'users'})),
  ]);
}

/* What is well is shown to who asks. */
function checksCard(findings) {
  const wrong = findings.filter(finding => finding.state !== 'ok').sort((one, other) => one.state.localeCompare(other.state));
  const list = make('div', {}, ...wrong.map(checkRow));
  if (!wrong.length) list.append(paragraph(words.allIsWell, ''));
  const more = button(words.showAllChecks, () => {
    list.replaceChildren(...findings.map(checkRow));
    more.remove();
  });
  const box = card(words.checks, [list], more);
  box.classList.add('checks');
  return box;
}

function checkRow({check, state: found, sentence, remedy}) {
  const mark = icon(found === 'ok' ? 'check' : 'warn', 17);
  return make('p', {className: `check ${found}`}, mark, make('span', {className: 'grow'},
    make('b', {}, `${words.checkStates[found]}: ${check}. `), sentence, remedy ? make('small', {}, remedy) : null));
}

function hereNow() {
  const people = [...state.users.values()].filter(user => user.active !== false && user.role !== 'bot');
  return words.hereNow(people.filter(user => !['offline', undefined].includes(user.presence)).length, people.length);
}

async function stop() {
  if (!await ask(words.stopQuestion(state.settings.name), words.stopExplained, words.stopNow, {danger: true})) return;
  if (!await attempt(() => post('/admin/stop'))) return;
  holdFeed(true);
  const text = paragraph(words.stoppingText, '');
  text.setAttribute('role', 'status');
  const dialog = openDialog(words.stopping, text, {locked: true});
  await untilGone();
  find('h2', dialog).textContent = words.stopped;
  text.textContent = words.stoppedText;
}

/* A server that refuses is still there, and may be finishing something. */
async function untilGone() {
  while (await fetch('/health', {cache: 'no-store'}).catch(() => null)) {
    await new Promise(resolve => setTimeout(resolve, LOOK_AGAIN));
  }
}
