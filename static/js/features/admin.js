/** The page of the administrators, in place of the conversation: its parts, each at an address of its own. */
import {find, make} from '../core/dom.js';
import {isAdmin, listen, state, tell} from '../core/state.js';
import {adminWords as words} from '../text/admin-words.js';
import {drawAlerts} from '../views/admin-alerts.js';
import {drawInvites} from '../views/admin-invites.js';
import {drawLog} from '../views/admin-log.js';
import {drawOverview} from '../views/admin-overview.js';
import {drawPeople} from '../views/admin-people.js';
import {drawPrograms} from '../views/admin-programs.js';
import {drawSettings} from '../views/admin-settings.js';
import {drawStorage} from '../views/admin-storage.js';

/* Each fills an element, and may give back what is called with (topic, value) when something changes. */
const PARTS = {
  overview: drawOverview, people: drawPeople, invites: drawInvites, settings: drawSettings, storage: drawStorage,
  programs: drawPrograms, alerts: drawAlerts, log: drawLog,
};
const NAMES = Object.keys(PARTS);
const TOPICS = ['snapshot', 'user', 'presence', 'channel', 'notice', 'alert', 'acknowledged'];

const nav = make('nav', {id: 'admin-tabs', 'aria-label': words.parts}, ...NAMES.map(tabLink));
const shown = {name: '', heard: null};

listen('page-admin', show);
listen('route', () => state.page && state.page.name === 'admin' || leave());
listen('user', user => user.id === state.me.id && state.page && show(shown.name));
for (const topic of TOPICS) listen(topic, value => shown.heard && shown.heard(topic, value));

function tabLink(name) {
  return make('a', {href: `#/admin/${name}`, id: `admin-${name}`}, words.tabs[name]);
}

function show(part) {
  const name = NAMES.includes(part) ? part : NAMES[0];
  Object.assign(state.page, {icon: 'shield', title: words.admin});
  tell('page');
  find('#sheet').classList.add('at-admin');
  if (!isAdmin()) return refuse();
  if (!nav.isConnected) find('#topbar').append(nav);
  for (const link of nav.children) mark(link, link.id === `admin-${name}`);
  find('[aria-current]', nav).scrollIntoView({inline: 'center', block: 'nearest'});
  return name === shown.name && find('#admin') ? null : fillPage(name, PARTS[name]);
}

function mark(link, isCurrent) {
  if (isCurrent) link.setAttribute('aria-current', 'page');
  else link.removeAttribute('aria-current');
}

function refuse() {
  nav.remove();
  fillPage('', body => body.append(make('h2', {}, words.forAdmins), make('p', {}, words.forAdminsText)));
}

/* What comes late for a part that was left meanwhile goes into an element that nobody sees. */
function fillPage(name, draw) {
  clear();
  const body = make('div', {className: `admin-${name || 'refused'}`});
  const page = make('div', {id: 'admin', tabIndex: -1, role: 'region', 'aria-label': words.tabs[name] || words.admin}, body);
  find('#conversation').prepend(page);
  shown.name = name;
  shown.heard = draw(body) || null;
  if (!find('dialog[open]')) page.focus({preventScroll: true});
}

function clear() {
  if (find('#admin')) find('#admin').remove();
  Object.assign(shown, {name: '', heard: null});
}

function leave() {
  clear();
  nav.remove();
  find('#sheet').classList.remove('at-admin');
}
