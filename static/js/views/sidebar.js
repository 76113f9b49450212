/** The channels, the connection, and oneself. */
import {fill, find, icon, make, setSlot} from '../core/dom.js';
import {outboxOf, outboxSize} from '../core/outbox.js';
import {addressOf, channelName, listen, mayCreateChannels, state} from '../core/state.js';
import {kept} from '../core/store.js';
import {words} from '../text/words.js';
import {avatar} from './avatar.js';

const SECTIONS = [
  {kind: 'public', title: words.channels, icon: 'hash', always: true},
  {kind: 'private', title: words.privateChannels, icon: 'lock'},
  {kind: 'direct', title: words.directMessages},
];
const REDRAW_ON = ['snapshot', 'channel', 'mine', 'outbox', 'drafts', 'route', 'user', 'presence'];

/** Wires the sidebar to what is told. */
export function startSidebar() {
  for (const topic of REDRAW_ON) listen(topic, drawSoon);
  listen('link', drawConnection);
  draw();
}

let waiting = false;

/* Events come in bursts; one drawing a frame is enough. */
function drawSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

function draw() {
  if (!state.me) return;
  const sidebar = find('#sidebar');
  setSlot(sidebar, 'place', state.settings.name);
  drawProfile();
  drawConnection();
  const held = document.activeElement.closest && document.activeElement.closest('a.channel');
  setSlot(sidebar, 'channels', SECTIONS.map(drawSection).filter(Boolean));
  if (held) find(`a.channel[href="${held.getAttribute('href')}"]`)?.focus({preventScroll: true});
}

function drawProfile() {
  const profile = find('#profile');
  const {me} = state;
  setSlot(profile, 'avatar', avatar({...me, presence: ownPresence()}, 34, {presence: true}));
  setSlot(profile, 'name', me.display_name || me.username);
  setSlot(profile, 'title', me.title || words.roles[me.role]);
  profile.setAttribute('aria-label', words.settingsOf(me.display_name || me.username));
}

/* Whoever sees this page is here, whatever the server last heard. */
function ownPresence() {
  const {presence} = state.users.get(state.me.id) || state.me;
  return presence && presence !== 'offline' ? presence : 'active';
}

function drawConnection() {
  const {status} = state.link;
  const count = [...state.users.values()].filter(user => user.presence && user.presence !== 'offline').length;
  const waitingCount = outboxSize();
  const SAY = {
    on: ['plug', words.onTheLan(Math.max(1, count))],
    connecting: ['retry', words.connecting],
    off: ['unplug', waitingCount ? words.noLinkWaiting(waitingCount) : words.noLink],
  };
  const [name, text] = SAY[status];
  find('#connection').dataset.status = status;
  setSlot(find('#sidebar'), 'connection', [icon(name, 14), make('span', {}, text)]);
}

function drawSection(section) {
  const channels = [...state.channels.values()].filter(channel => channel.kind === section.kind && channel.joined && !channel.hidden);
  if (!channels.length && !section.always) return null;
  channels.sort((one, other) => channelName(one).localeCompare(channelName(other)));
  const button = section.always && mayCreateChannels() ? addButton() : null;
  return fill('channel-section', {title: section.title, button, rows: channels.map(channel => drawChannel(channel, section))});
}

function addButton() {
  return make('button', {type: 'button', id: 'add-channel', className: 'icon-button', 'aria-label': words.addChannel, title: words.addChannel}, icon('plus', 16));
}

function drawChannel(channel, section) {
  const row = fill('channel', {icon: section.icon ? icon(section.icon, 17) : peerAvatar(channel), name: channelName(channel), end: endOf(channel)});
  row.href = addressOf(channel.id);
  row.dataset.id = channel.id;
  row.classList.toggle('unread', channel.unread > 0 && channel.notify !== 'none');
  row.classList.toggle('muted', channel.notify === 'none');
  if (channel.id === state.channelId) row.setAttribute('aria-current', 'page');
  return row;
}

function peerAvatar(channel) {
  const other = channel.members.find(id => id !== state.me.id) || state.me.id;
  return avatar(state.users.get(other) || {id: other}, 20, {presence: true});
}

/* A badge counts what is for the reader, a plain number what is new; a draft shows only where one is not writing it. */
function endOf(channel) {
  const forMe = channel.kind === 'direct' ? channel.unread : channel.mentions;
  const marks = [];
  if (outboxOf(channel.id).some(entry => entry.status === 'failed')) marks.push(sign('warn', words.failedMessage));
  if (channel.id !== state.channelId && hasDraft(channel)) marks.push(sign('edit', words.draft));
  if (channel.archived) marks.push(sign('lock', words.archivedChannel));
  if (forMe) marks.push(make('span', {className: 'badge', 'aria-label': words.mentionsYou(forMe)}, count(forMe)));
  else if (channel.unread) marks.push(make('span', {className: 'count', 'aria-label': words.unreadMessages(channel.unread)}, count(channel.unread)));
  return marks;
}

const hasDraft = channel => Boolean(kept(`draft:${channel.id}`));
const count = number => number > 999 ? '999+' : String(number);

function sign(name, text) {
  return make('span', {className: 'sign', role: 'img', 'aria-label': text, title: text}, icon(name, 15));
}
