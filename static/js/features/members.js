/** Who is in a channel: a list in the panel; adding people, removing them, writing to one of them. */
import {ApiError, get, post, remove} from '../core/api.js';
import {find, icon, label, make} from '../core/dom.js';
import {apply, isHeard, listen, mayInvite, mayManage, openChannel, state, tell} from '../core/state.js';
import {profileWords} from '../text/profile-words.js';
import {words} from '../text/words.js';
import {leaveChannel} from '../views/channel.js';
import {ask, openForm, radios} from '../views/dialog.js';
import {openMenu} from '../views/menu.js';
import {closePanel, openPanel, openPanelName, tieButton} from '../views/panel.js';
import {everybodyBut, findPeople, peopleOf, peoplePicker, personRow, roleTag, startDirect} from '../views/people.js';
import {attempt} from '../views/toast.js';

const NAME = 'members';
const GROUPS = [
  {title: words.hereNow, of: user => ['active', 'dnd'].includes(user.presence)},
  {title: words.idleNow, of: user => user.presence === 'idle'},
  {title: words.offlineNow, of: user => !user.presence || user.presence === 'offline'},
];

const filter = make('input', {type: 'search', placeholder: words.filterMembers, 'aria-label': words.filterMembers});
const list = make('div', {className: 'people'});
const body = make('div', {className: 'members'}, make('span', {className: 'input'}, icon('search', 17), filter), list);
const shown = {channelId: null, ids: []};

tieButton('#members', NAME, open);
document.addEventListener('click', event => event.target.closest('.add-people') && addPeople(openChannel()));
filter.addEventListener('input', drawList);
list.addEventListener('click', event => {
  const row = event.target.closest('.person');
  if (row) openPerson(row, state.users.get(Number(row.dataset.userId)));
});
for (const topic of ['route', 'snapshot', 'channel', 'mine']) listen(topic, follow);
for (const topic of ['presence', 'user']) listen(topic, () => openPanelName() === NAME && drawList());

function open() {
  filter.value = '';
  return show(openChannel());
}

/* The panel follows the channel that is open, and what changes in it. */
function follow(changed) {
  if (openPanelName() !== NAME) return;
  const channel = openChannel();
  if (!channel) return closePanel();
  if (!changed || !changed.id || changed.id === channel.id) show(channel);
}

async function show(channel) {
  const ids = channel.members || await membersOf(channel);
  if (!ids || channel.id !== state.channelId) return;
  Object.assign(shown, {channelId: channel.id, ids});
  drawList();
  openPanel(NAME, {title: words.membersTitle, count: ids.length, buttons: mayInvite(channel) ? [addButton()] : [], body});
}

async function membersOf(channel) {
  const answer = await attempt(() => get(`/channels/${channel.id}/members`));
  return answer && answer.users;
}

function addButton() {
  const button = make('button', {type: 'button', className: 'icon-button add-people'}, icon('userplus', 19));
  label(button, words.addPeople);
  return button;
}

function drawList() {
  const held = document.activeElement.closest && document.activeElement.closest('.members .person');
  const people = findPeople(filter.value, peopleOf(shown.ids));
  list.replaceChildren(...GROUPS.flatMap(group => drawGroup(group, people.filter(group.of))));
  if (!people.length) list.append(make('p', {className: 'muted'}, words.nobodyFits));
  if (held) find(`.person[data-user-id="${held.dataset.userId}"]`, list)?.focus({preventScroll: true});
}

function drawGroup({title}, people) {
  if (!people.length) return [];
  return [make('h3', {className: 'people-head'}, `${title}, ${people.length}`), ...people.map(drawPerson)];
}

function drawPerson(user) {
  const row = personRow(user, roleTag(user));
  row.setAttribute('aria-haspopup', 'menu');
  return row;
}

function openPerson(row, user) {
  const channel = openChannel();
  const mine = user.id === state.me.id;
  const write = {icon: 'compose', label: mine ? words.notebook : words.message, run: () => startDirect([user.id])};
  const end = mine ? leaving(channel) : removing(channel, user);
  openMenu(row, user.display_name || user.username, [write, isHeard('show-profile') && showing(user, row), end].filter(Boolean));
}

function showing(user, row) {
  return {icon: 'user', label: profileWords.showProfile, run: () => tell('show-profile', {userId: user.id, anchor: row})};
}

function leaving(channel) {
  const may = channel.joined && channel.kind !== 'direct';
  return may && {icon: 'logout', label: words.leaveChannel(channel.name), danger: true, run: () => leaveChannel(channel)};
}

function removing(channel, user) {
  return mayManage(channel) && {icon: 'logout', label: words.removeFrom(channel.name), danger: true, run: () => removePerson(channel, user)};
}

async function removePerson(channel, user) {
  const name = user.display_name || user.username;
  if (!await ask(words.removeQuestion(name, channel.name), words.removeExplained(channel.kind), words.remove, {danger: true})) return;
  await attempt(() => remove(`/channels/${channel.id}/members/${user.id}`));
}

async function addPeople(channel) {
  const ids = channel.members || await membersOf(channel);
  if (!ids) return;
  const picker = peoplePicker(everybodyBut(ids));
  const fields = channel.kind === 'private' ? [picker.element, radios('history', words.historyQuestion, words.histories, 'none')] : [picker.element];
  openForm(words.addPeopleTo(channel.name), fields, words.add, async ({history}) => {
    if (!picker.chosen().length) throw new ApiError(400, {error: words.chooseSomebody});
    const answer = await post(`/channels/${channel.id}/members`, {users: picker.chosen(), history: history === 'all'});
    apply({kind: 'channel', value: answer.channel});
  });
}
