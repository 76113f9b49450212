/** The head of the open channel. */
import {fill, find, icon, isClaimed, label, refillSlot} from '../core/dom.js';
import {channelName, isPair, listen, memberCount, openChannel, peerOf, state} from '../core/state.js';
import {words} from '../text/words.js';
import {avatar, statusLine} from './avatar.js';
import {addShortcut} from './shortcuts.js';
import {shownMessages} from './timeline.js';

const KIND_ICONS = {public: 'hash', private: 'lock'};
const FACES = 3;

/** Wires the head to what is told. */
export function startTopbar() {
  find('#topbar').replaceChildren(fill('topbar'));
  addShortcut({keys: '/', label: words.searchMessages, group: 'finding', single: true, run: () => find('#search').click()});
  for (const topic of ['snapshot', 'channel', 'mine', 'message', 'route', 'user', 'presence', 'settings', 'page']) listen(topic, draw);
  listen('timeline-moved', drawMembers);
  draw();
}

function draw() {
  const bar = find('#topbar');
  const channel = openChannel();
  for (const button of [find('#members'), find('#channel-menu')]) button.hidden = !channel || !isClaimed(button);
  drawUnread(bar);
  document.title = titleOf(channel);
  if (!channel) return setSlots(bar, {icon: null, name: words.noChannelTitle, subtitle: '', topic: '', ...headOfPage()});
  setSlots(bar, {
    icon: KIND_ICONS[channel.kind] ? icon(KIND_ICONS[channel.kind], 19) : null,
    name: channelName(channel), topic: topicOf(channel),
  });
  find('.topic', bar).title = channel.topic || '';
  drawMembers();
}

/* A page that is under way has no name yet. */
function headOfPage() {
  return state.page && {icon: state.page.icon && icon(state.page.icon, 19), name: state.page.title};
}

function topicOf(channel) {
  if (!isPair(channel)) return channel.topic;
  return statusLine(peerOf(channel)) || peerInWords(channel);
}

function drawMembers() {
  const channel = openChannel();
  if (!channel) return;
  const members = memberCount(channel);
  const here = (channel.members || []).filter(id => !['offline', undefined].includes((state.users.get(id) || {}).presence)).length;
  const size = [words.members(members), here && words.hereCount(here)];
  const faces = facesOf(channel).map(user => avatar(user, 22));
  setSlots(find('#topbar'), {
    subtitle: isPair(channel) ? peerInWords(channel) : size.filter(Boolean).join(' · '),
    faces: faces.length ? faces : icon('users', 18), count: members,
  });
  label(find('#members'), words.showMembers(members));
}

function peerInWords(channel) {
  const {presence = 'offline', title} = peerOf(channel);
  return [words.presence[presence], title].filter(Boolean).join(' · ');
}

/* Who is in a public channel is not known here, but who wrote last is. */
function facesOf(channel) {
  const ids = channel.members || shownMessages().map(message => message.user_id).reverse();
  return [...new Set(ids)].slice(0, FACES).map(id => state.users.get(id)).filter(Boolean);
}

function setSlots(bar, slots) {
  for (const [name, value] of Object.entries(slots)) refillSlot(bar, name, value);
}

function unreadElsewhere() {
  return [...state.channels.values()].filter(channel => channel.joined && channel.id !== state.channelId)
    .reduce((sum, channel) => sum + channel.unread, 0);
}

function drawUnread(bar) {
  const unread = unreadElsewhere();
  const dot = find('.dot', bar);
  dot.hidden = !unread;
  dot.textContent = unread > 99 ? '99+' : unread;
}

function titleOf(channel) {
  const unread = [...state.channels.values()].filter(other => other.joined && other.notify !== 'none').reduce((sum, other) => sum + other.unread, 0);
  const page = state.page && state.page.title ? `${state.page.title} · ` : '';
  const name = channel ? `${channel.kind === 'direct' ? '' : '#'}${channelName(channel)} · ` : page;
  return `${unread ? `(${unread}) ` : ''}${name}${state.settings.name || 'MiniMost'}`;
}
