/** The administration: who has an account, what each may do, and who waits to be let in. */
import {get, patch, remove} from '../core/api.js';
import {find, icon, label, make} from '../core/dom.js';
import {state, tell} from '../core/state.js';
import {adminWords as words} from '../text/admin-words.js';
import {fitting} from '../text/fuzzy.js';
import {profileWords} from '../text/profile-words.js';
import {words as pageWords} from '../text/words.js';
import {asOthersSee, button, card, copyField, listRow, paragraph, postAndJoining, qrOfText, showOnce, table, tableRow, whenInWords} from './admin-parts.js';
import {avatar} from './avatar.js';
import {ask} from './dialog.js';
import {openMenu} from './menu.js';
import {attempt, toast} from './toast.js';

const AT_ONCE = 50;
const ROLES = ['guest', 'member', 'admin', 'owner'];
/* Changes come in crowds: one look at the server for all within this time (ms). */
const PAUSE = 300;
const HERE = ['active', 'idle', 'dnd'];

const nameOf = user => user.display_name || user.username;
const isOwner = user => user.role === 'owner';

/** Fills the part about people; the list follows what others change. */
export function drawPeople(body) {
  const filter = make('input', {type: 'search', placeholder: words.filterPeople, 'aria-label': words.filterPeople});
  const list = {users: [], most: AT_ONCE, filter, timer: 0, waiting: make('div'), rows: make('div'), count: make('span', {className: 'muted'})};
  filter.addEventListener('input', () => { list.most = AT_ONCE; drawRows(list); });
  const tools = make('span', {className: 'input'}, icon('search', 17), filter);
  const box = card(words.people, [list.rows], tools);
  find('h2', box).append(' ', list.count);
  body.append(list.waiting, box);
  fetchPeople(list);
  return (topic, value) => {
    if (topic === 'presence') drawSeen(list, value);
    if (['user', 'snapshot'].includes(topic) || topic === 'notice' && value.code === 'waiting') later(list);
  };
}

function later(list) {
  clearTimeout(list.timer);
  list.timer = setTimeout(fetchPeople, PAUSE, list);
}

async function fetchPeople(list) {
  const answer = await attempt(() => get('/admin/users'));
  if (!answer) return;
  list.users = answer.users;
  drawWaiting(list);
  drawRows(list);
}

function drawWaiting(list) {
  const rows = list.users.filter(user => !user.approved).map(user => listRow(nameOf(user), words.waitingSince(whenInWords(user.created_at)), [
    button(words.turnAway, () => turnAway(list, user), {name: words.turnAwayPerson(nameOf(user))}),
    button(words.letIn, () => change(list, user, {approved: true}, words.letInDone(nameOf(user))), {look: 'primary small', name: words.letInPerson(nameOf(user))}),
  ]));
  list.waiting.replaceChildren(...(rows.length ? [card(words.waiting, rows)] : []));
}

function drawRows(list) {
  const people = list.users.filter(user => user.approved && user.role !== 'bot');
  const found = fitting(list.filter.value, people, user => `${nameOf(user)} ${user.username} ${user.title || ''}`);
  const focused = document.activeElement && document.activeElement.dataset.userId;
  list.count.textContent = people.length;
  list.rows.replaceChildren(table(words.people, {...words.columns, actions: ''}, found.slice(0, list.most).map(user => personRow(list, user))));
  if (!found.length) list.rows.append(paragraph(pageWords.nobodyFits));
  const left = found.length - list.most;
  if (left > 0) list.rows.append(button(words.showMore(Math.min(left, AT_ONCE)), () => { list.most += AT_ONCE; drawRows(list); }));
  const again = focused && find(`[data-user-id="${focused}"]`, list.rows);
  if (again) again.focus({preventScroll: true});
}

function personRow(list, user) {
  const known = {...user, presence: (state.users.get(user.id) || user).presence};
  const you = user.id === state.me.id ? make('span', {className: 'muted'}, ` ${pageWords.you}`) : null;
  const row = tableRow({
    name: make('span', {className: 'admin-person'}, avatar(known, 30, {presence: true}),
      make('span', {className: 'grow'}, make('b', {className: 'ellipsis', dir: 'auto'}, nameOf(user), you), make('small', {className: 'ellipsis'}, user.username))),
    title: user.title || '', access: accessTag(user), seen: seenInWords(known), devices: String(user.sessions), actions: actionsButton(list, user),
  });
  row.dataset.person = user.id;
  return row;
}

function accessTag(user) {
  if (!user.active) return make('span', {className: 'tag closed'}, words.closed);
  return make('span', {className: `tag ${user.role}`}, pageWords.roles[user.role]);
}

function seenInWords({presence, last_seen: at}) {
  if (HERE.includes(presence)) return words.now;
  return at ? whenInWords(at) : words.never;
}

function drawSeen(list, {user_id: id}) {
  const cell = find(`[data-person="${id}"] .seen`, list.rows);
  if (cell && state.users.has(id)) cell.textContent = seenInWords(state.users.get(id));
}

function actionsButton(list, user) {
  const element = make('button', {type: 'button', className: 'icon-button', 'aria-haspopup': 'menu'}, icon('more', 19));
  element.dataset.userId = user.id;
  label(element, words.actionsFor(nameOf(user)));
  const profile = {icon: 'user', label: profileWords.showProfile, run: () => tell('show-profile', {userId: user.id, anchor: element})};
  element.addEventListener('click', () => openMenu(element, words.actionsFor(nameOf(user)), [profile, 'rule', ...actionsOf(list, user)]));
  return element;
}

/* Why something cannot be done stands where one looks for it. */
function actionsOf(list, user) {
  if (isOwner(user) && !isOwner(state.me)) return [note(words.onlyOwners)];
  const lastOwner = isOwner(user) && list.users.filter(one => isOwner(one) && one.active).length === 1;
  if (lastOwner) return [note(words.lastOwner), 'rule', ...deviceActions(list, user)];
  if (!user.active) return [{icon: 'retry', label: words.reactivate, run: () => change(list, user, {active: true}, words.turnedOn(nameOf(user)))}];
  return [
    ...ROLES.filter(role => role !== user.role && (role !== 'owner' || isOwner(state.me))).map(role => (
      {icon: 'shield', label: words.makeRole[role], run: () => giveRole(list, user, role)})),
    'rule', ...deviceActions(list, user), 'rule',
    {icon: 'x', label: words.deactivate, danger: true, run: () => deactivate(list, user)},
  ];
}

const note = text => make('p', {className: 'menu-note'}, text);

const deviceActions = (list, user) => [
  {icon: 'key', label: words.resetPassword, run: () => makeResetLink(user)},
  {icon: 'logout', label: words.signOutEverywhere, run: () => signOutEverywhere(list, user)},
].filter(() => user.active);

/* The list is drawn from what the server says then. */
async function change(list, user, values, done) {
  if (await attempt(() => patch(`/admin/users/${user.id}`, values))) toast(done, {name: 'shield'});
  await fetchPeople(list);
}

async function giveRole(list, user, role) {
  const name = pageWords.roles[role];
  if (!await ask(words.roleQuestion(nameOf(user), name), words.roleExplained[role], words.change)) return;
  await change(list, user, {role}, words.roleChanged(nameOf(user), name));
}

async function turnAway(list, user) {
  if (!await ask(words.turnAwayQuestion(nameOf(user)), words.turnAwayText, words.turnAway, {danger: true})) return;
  await change(list, user, {approved: false}, words.turnedAway(nameOf(user)));
}

async function deactivate(list, user) {
  if (!await ask(words.deactivateQuestion(nameOf(user)), words.deactivateText, words.deactivateNow, {danger: true})) return;
  await change(list, user, {active: false}, words.turnedOff(nameOf(user)));
}

async function signOutEverywhere(list, user) {
  await attempt(async () => {
    await remove(`/admin/users/${user.id}/sessions`);
    toast(words.signedOut(nameOf(user)), {name: 'logout'});
  });
  later(list);
}

async function makeResetLink(user) {
  const found = await attempt(() => postAndJoining(`/admin/users/${user.id}/reset`));
  if (!found) return;
  const [{url: made, expires_in: seconds}, joining] = found;
  const url = asOthersSee(made, joining);
  showOnce(words.resetTitle(nameOf(user)), words.resetText(Math.round(seconds / 60)), [
    copyField(url, words.copyLink), qrOfText(url, words.resetTitle(nameOf(user))), joining.address ? null : paragraph(words.onlyHere),
  ]);
}
