/** The channels, the connection, and oneself. */
import {fill, find, findAll, icon, isClaimed, make, refillSlot, setSlot, slot} from '../core/dom.js';
import {outboxOf, outboxSize} from '../core/outbox.js';
import {addressOf, channelName, isPair, listen, mayCreateChannels, peerOf, state, tell} from '../core/state.js';
import {keep, kept} from '../core/store.js';
import {words} from '../text/words.js';
import {avatar, statusLine, statusMark} from './avatar.js';
import {showRows} from './rows.js';

const KIND_ICONS = {public: 'hash', private: 'lock'};
const ofKind = kind => channel => channel.kind === kind && !channel.favourite;
const SECTIONS = [
  {name: 'favourites', title: words.favourites, holds: channel => channel.favourite},
  {name: 'public', title: words.channels, holds: ofKind('public'), always: true, empty: words.findChannel, add: {id: 'add-channel', label: words.addChannel, may: () => true}},
  {name: 'private', title: words.privateChannels, holds: ofKind('private'), add: {id: 'add-private', label: words.addPrivate, may: mayCreateChannels}},
  {name: 'direct', title: words.directMessages, holds: ofKind('direct'), always: true, empty: words.writeToSomebody, add: {id: 'add-direct', label: words.newDirect, may: () => true}},
];
const EDGES = ['above', 'below'];
const REDRAW_ON = ['snapshot', 'channel', 'mine', 'message', 'outbox', 'drafts', 'route', 'user', 'presence', 'settings'];

/** Wires the sidebar to what is told. */
export function startSidebar() {
  for (const topic of REDRAW_ON) listen(topic, drawSoon);
  listen('link', drawConnection);
  const lists = find('.channel-lists');
  lists.addEventListener('scroll', drawHints, {passive: true});
  new ResizeObserver(drawHints).observe(lists);
  for (const edge of EDGES) find(`.unread-hint.${edge}`).addEventListener('click', () => showNext(edge));
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
  drawPlaces();
  showRows(slot(sidebar, 'channels'), SECTIONS.map(sectionRow).filter(Boolean));
  drawHints();
  tell('sidebar-drawn');
}

function drawProfile() {
  const profile = find('#profile');
  const {me} = state;
  refillSlot(profile, 'avatar', avatar({...me, presence: ownPresence()}, 34, {presence: true}));
  refillSlot(profile, 'name', me.display_name || me.username);
  refillSlot(profile, 'title', statusLine(me) || me.title || words.roles[me.role]);
  profile.setAttribute('aria-label', words.menuOf(me.display_name || me.username));
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
    slow: ['clock', words.slowServer],
    off: ['unplug', waitingCount ? words.noLinkWaiting(waitingCount) : words.noLink],
  };
  const [name, text] = SAY[status];
  find('#connection').dataset.status = status;
  setSlot(find('#sidebar'), 'connection', [icon(name, 14), make('span', {}, text)]);
}

/* What is unread in all channels that one wants to hear of, and how much of it names one. */
function drawPlaces() {
  const heard = [...state.channels.values()].filter(channel => channel.joined && !channel.hidden && !isMuted(channel));
  const sum = name => heard.reduce((total, channel) => total + channel[name], 0);
  drawPlace('unread', sum('unread'), {className: 'count', say: words.unreadMessages});
  drawPlace('mentions', sum('mentions'), {className: 'badge', say: words.mentionsYou});
}

function drawPlace(name, total, {className, say}) {
  find(`#${name}`).classList.toggle('unread', total > 0);
  refillSlot(find('#sidebar'), `${name}-end`, total ? make('span', {className, 'aria-label': say(total)}, count(total)) : null);
}

/* A section that stays is the same element, and so is each row in it: what is drawn anew loses the focus and swallows a click. */
function sectionRow(section) {
  const channels = [...state.channels.values()].filter(channel => section.holds(channel) && channel.joined && !channel.hidden);
  if (!channels.length && !section.always) return null;
  channels.sort((one, other) => channelName(one).localeCompare(channelName(other)));
  const button = section.add && section.add.may() ? addButton(section.add) : null;
  return {
    key: section.name, stamp: Boolean(button), draw: () => drawSection(section, button),
    dress: element => showChannels(element, section, channels),
  };
}

function drawSection({name, title}, button) {
  const element = fill('channel-section', {title, button});
  find('.fold', element).addEventListener('click', () => toggleSection(name));
  return element;
}

function showChannels(element, section, channels) {
  const folded = kept(`folded:${section.name}`);
  const shown = folded ? channels.filter(staysInView) : channels;
  const button = find('[data-claim]', element);
  find('.fold', element).setAttribute('aria-expanded', String(!folded));
  showRows(slot(element, 'rows'), channels.length || folded || !button ? shown.map(channelRow) : [emptyRow(section, button)]);
}

/* Where there is nothing yet, the row says what to do. */
function emptyRow({empty}, button) {
  return {key: 'empty', stamp: empty, draw: () => {
    const row = make('button', {type: 'button', className: 'channel'}, icon('plus', 17), make('span', {}, empty));
    row.addEventListener('click', () => button.click());
    return row;
  }};
}

/* A folded section still shows where one is and what is new. */
const staysInView = channel => channel.id === state.channelId || isUnread(channel);

function toggleSection(name) {
  keep(`folded:${name}`, kept(`folded:${name}`) ? null : true);
  draw();
}

function addButton({id, label}) {
  const button = make('button', {type: 'button', id, className: 'icon-button', 'aria-label': label, title: label, 'data-claim': `#${id}`}, icon('plus', 16));
  return isClaimed(button) ? button : null;
}

const isMuted = channel => channel.notify === 'none';
const isUnread = channel => channel.unread > 0 && !isMuted(channel);

function channelRow(channel) {
  const status = isPair(channel) ? statusMark(peerOf(channel)) : null;
  return {
    key: String(channel.id), stamp: status, draw: () => drawChannel(channel, status),
    dress: row => dressChannel(row, channel),
  };
}

function drawChannel(channel, status) {
  const row = fill('channel');
  if (status) slot(row, 'name').after(status);
  row.href = addressOf(channel.id);
  row.dataset.id = channel.id;
  return row;
}

function dressChannel(row, channel) {
  const name = KIND_ICONS[channel.kind];
  refillSlot(row, 'icon', name ? icon(name, 17) : peerAvatar(channel));
  refillSlot(row, 'name', channelName(channel));
  refillSlot(row, 'end', endOf(channel));
  row.classList.toggle('unread', isUnread(channel));
  row.classList.toggle('muted', isMuted(channel));
  if (channel.id === state.channelId) row.setAttribute('aria-current', 'page');
  else row.removeAttribute('aria-current');
}

const peerAvatar = channel => avatar(peerOf(channel), 20, {presence: true});

/* A badge counts what is for the reader, a plain number what is new; a draft shows only where one is not writing it. */
function endOf(channel) {
  const forMe = channel.kind === 'direct' ? channel.unread : channel.mentions;
  const marks = [];
  if (outboxOf(channel.id).some(entry => entry.status === 'failed')) marks.push(sign('warn', words.failedMessage));
  if (channel.id !== state.channelId && hasDraft(channel)) marks.push(sign('edit', words.draft));
  if (channel.archived) marks.push(sign('lock', words.archivedChannel));
  if (isMuted(channel)) marks.push(sign('belloff', words.muted));
  if (forMe && !isMuted(channel)) marks.push(make('span', {className: 'badge', 'aria-label': words.mentionsYou(forMe)}, count(forMe)));
  else if (isUnread(channel)) marks.push(make('span', {className: 'count', 'aria-label': words.unreadMessages(channel.unread)}, count(channel.unread)));
  return marks;
}

const hasDraft = channel => Boolean(kept(`draft:${channel.id}`));
const count = number => number > 999 ? '999+' : String(number);

function sign(name, text) {
  return make('span', {className: 'sign', role: 'img', 'aria-label': text, title: text}, icon(name, 15));
}

/* -- unread channels outside the visible part */

/* The unread rows that lie beyond one edge of the list. */
function beyond(edge) {
  const lists = find('.channel-lists').getBoundingClientRect();
  return findAll('.channel-lists .channel.unread').filter(row => {
    const {top, bottom} = row.getBoundingClientRect();
    return edge === 'above' ? bottom <= lists.top + 4 : top >= lists.bottom - 4;
  });
}

function drawHints() {
  for (const edge of EDGES) {
    const count = beyond(edge).length;
    const hint = find(`.unread-hint.${edge}`);
    hint.hidden = !count;
    setSlot(hint, 'text', count ? words.moreUnread(count) : '');
  }
}

function showNext(edge) {
  const rows = beyond(edge);
  const next = edge === 'above' ? rows.pop() : rows[0];
  if (next) next.scrollIntoView({block: 'center'});
}
