/** What one can do with the open channel: rename, topic, archive, leave; and who is in it. */
import {ApiError, get, patch, remove} from '../core/api.js';
import {fill, make} from '../core/dom.js';
import {apply, mayManage, openChannel, state, userName} from '../core/state.js';
import {words} from '../text/words.js';
import {avatar} from '../views/avatar.js';
import {ask, field, openDialog, openForm, openMenu, toast} from '../views/dialog.js';

const ACTIONS = [
  {icon: 'edit', label: () => words.rename, may: mayManage, run: rename},
  {icon: 'quote', label: () => words.setTopic, may: mayManage, run: setTopic},
  {icon: 'users', label: channel => words.showMembers(countOf(channel)), may: () => true, run: showMembers},
  {icon: 'inbox', label: channel => channel.archived ? words.unarchive : words.archive, may: mayManage, run: archive},
  {icon: 'logout', label: () => words.leave, may: channel => channel.joined && channel.kind !== 'direct', run: leave, danger: true},
];
const countOf = channel => channel.kind === 'direct' ? channel.members.length : channel.member_count;

document.addEventListener('click', event => {
  const menuButton = event.target.closest('#channel-menu');
  if (menuButton) openChannelMenu(menuButton);
  if (event.target.closest('#members')) showMembers(openChannel());
});

function openChannelMenu(button) {
  const channel = openChannel();
  const actions = ACTIONS.filter(action => action.may(channel));
  const items = actions.map(action => ({...action, label: action.label(channel), run: () => action.run(channel)}));
  openMenu(button, words.channelMenu, items);
}

async function change(channel, changes) {
  const answer = await patch(`/channels/${channel.id}`, changes);
  apply({kind: 'channel', value: answer.channel});
}

function rename(channel) {
  const name = field('name', words.name, {hint: words.nameHint, value: channel.name, maxLength: 80, autocomplete: 'off', autocapitalize: 'none'});
  openForm(words.renameChannel(channel.name), [name], words.rename, values => {
    if (!values.name.trim()) throw new ApiError(400, {error: words.nameMissing, field: 'name'});
    return change(channel, {name: values.name.trim()});
  });
}

function setTopic(channel) {
  const topic = field('topic', words.topic, {hint: words.topicHint, value: channel.topic || '', maxLength: 250, autocomplete: 'off'});
  openForm(words.topicOf(channel.name), [topic], words.save, values => change(channel, {topic: values.topic.trim()}));
}

async function archive(channel) {
  const archived = !channel.archived;
  if (archived && !await ask(words.archiveQuestion(channel.name), words.archiveExplained, words.archive)) return;
  await attempt(() => change(channel, {archived}));
}

async function leave(channel) {
  const text = channel.kind === 'public' ? words.leavePublic : words.leavePrivate;
  if (!await ask(words.leaveQuestion(channel.name), text, words.leave, {danger: true})) return;
  await attempt(async () => {
    await remove(`/channels/${channel.id}/members/${state.me.id}`);
    apply({kind: 'channel', value: {id: channel.id, gone: true}});
  });
}

async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message || words.noServer, {name: 'warn'});
    return null;
  }
}

async function showMembers(channel) {
  const answer = await attempt(() => get(`/channels/${channel.id}/members`));
  if (!answer) return;
  const ids = answer.users.filter(id => state.users.has(id));
  ids.sort((one, other) => rank(one) - rank(other) || userName(one).localeCompare(userName(other)));
  openDialog(words.members(ids.length), make('div', {className: 'member-list', tabIndex: 0}, ...ids.map(drawMember)));
}

const ORDER = ['active', 'idle', 'dnd'];

function rank(id) {
  const at = ORDER.indexOf(state.users.get(id).presence);
  return at < 0 ? ORDER.length : at;
}

function drawMember(id) {
  const user = state.users.get(id);
  const about = [`@${user.username}`, user.title, words.presence[user.presence || 'offline']].filter(Boolean).join(' · ');
  return fill('member', {avatar: avatar(user, 32, {presence: true}), name: userName(id), about});
}
