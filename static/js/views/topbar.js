/** The head of the open channel. */
import {fill, find, icon, label, setSlot} from '../core/dom.js';
import {channelName, listen, openChannel, state} from '../core/state.js';
import {words} from '../text/words.js';

const KIND_ICONS = {public: 'hash', private: 'lock'};

/** Wires the head to what is told. */
export function startTopbar() {
  find('#topbar').replaceChildren(fill('topbar'));
  for (const topic of ['snapshot', 'channel', 'mine', 'route', 'user']) listen(topic, draw);
  draw();
}

function draw() {
  const bar = find('#topbar');
  const channel = openChannel();
  find('#members').hidden = find('#channel-menu').hidden = !channel;
  drawUnread(bar);
  document.title = titleOf(channel);
  if (!channel) return setSlots(bar, {icon: null, name: words.noChannelTitle, subtitle: '', topic: ''});
  const members = channel.kind === 'direct' ? channel.members.length : channel.member_count;
  setSlots(bar, {
    icon: KIND_ICONS[channel.kind] ? icon(KIND_ICONS[channel.kind], 19) : null,
    name: channelName(channel), subtitle: words.members(members), topic: channel.topic, count: members,
  });
  find('.topic', bar).title = channel.topic || '';
  label(find('#members'), words.showMembers(members));
}

function setSlots(bar, slots) {
  for (const [name, value] of Object.entries(slots)) setSlot(bar, name, value);
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
  const unread = [...state.channels.values()].filter(other => other.joined).reduce((sum, other) => sum + other.unread, 0);
  const name = channel ? `${channel.kind === 'direct' ? '' : '#'}${channelName(channel)} · ` : '';
  return `${unread ? `(${unread}) ` : ''}${name}${state.settings.name || 'MiniMost'}`;
}
