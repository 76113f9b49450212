/** Everywhere one can jump to: channels and people, the likeliest first, and what there is to do. */
import {find, findAll, icon} from '../core/dom.js';
import {addressOf, channelName, memberCount, state} from '../core/state.js';
import {kept} from '../core/store.js';
import {keysWords} from '../text/keys-words.js';
import {words} from '../text/words.js';
import {avatar} from './avatar.js';
import {everybodyBut, startDirect} from './people.js';

const KIND_ICONS = {public: 'hash', private: 'lock', direct: 'users'};
const BUTTONS = '#new-message, #add-channel, #search, .places > *, #topbar button:not(#open-drawer), #profile';

/** Channels and people as {key, kind, group, name, text, about, sign, channel, go}; `others` are public channels one has not joined. */
export function destinations(others) {
  const known = [...state.channels.values(), ...others.filter(channel => !state.channels.has(channel.id))];
  const byPerson = new Map(known.filter(channel => personOf(channel)).map(channel => [personOf(channel), channel]));
  const places = [
    ...known.filter(channel => !personOf(channel)).map(asChannel),
    ...everybodyBut([]).map(user => asPerson(user, byPerson.get(user.id))),
  ];
  const recent = (kept('recent-channels') || []).filter(id => id !== state.channelId);
  const ranked = places.map(place => ({...place, ...rankOf(place.channel, recent)}));
  return ranked.sort((one, other) => one.rank - other.rank);
}

/* The one person of a direct channel between two; oneself, where it is the notebook. */
function personOf({kind, members}) {
  if (kind !== 'direct' || members.length > 2) return null;
  return members.find(id => id !== state.me.id) || state.me.id;
}

function rankOf(channel, recent) {
  const at = channel ? recent.indexOf(channel.id) : -1;
  if (channel && channel.unread && channel.notify !== 'none') return {group: 'unread', rank: channel.mentions || channel.kind === 'direct' ? 0 : 1};
  if (at >= 0) return {group: 'recent', rank: 2 + at};
  const late = !channel || !channel.joined || channel.archived || channel.id === state.channelId;
  return {group: 'all', rank: late ? 1001 : 1000};
}

function asChannel(channel) {
  const name = channelName(channel);
  return {
    key: `channel-${channel.id}`, kind: 'channel', name, text: name, about: aboutChannel(channel), channel,
    sign: () => icon(KIND_ICONS[channel.kind], 18), go: () => openAddress(addressOf(channel.id)),
  };
}

function aboutChannel(channel) {
  const members = words.members(memberCount(channel));
  if (channel.archived) return keysWords.archived;
  if (!channel.joined) return keysWords.notJoined(members);
  if (channel.unread) return keysWords.unreadCount(channel.unread);
  return channel.kind === 'private' ? keysWords.privateChannel(members) : members;
}

function asPerson(user, channel) {
  const name = user.display_name || user.username;
  return {
    key: `person-${user.id}`, kind: 'person', name, text: `${name} ${user.username} ${user.title || ''}`, channel,
    about: [user.title, user.id === state.me.id ? words.you : words.presence[user.presence || 'offline']].filter(Boolean).join(' · '),
    sign: () => avatar(user, 24, {presence: true}),
    go: () => channel ? openAddress(addressOf(channel.id)) : startDirect([user.id]),
  };
}

/* From the drawer of a phone the channel takes the place of the drawer's step of history. */
function openAddress(address) {
  if (history.state && history.state.drawer) location.replace(address);
  else location.hash = address;
}

/** What the buttons of the page do, as {key, kind, group, name, text, about, sign, go}. */
export function actions() {
  return findAll(BUTTONS).filter(button => !button.hidden).map(asAction);
}

function asAction(button) {
  const name = (find('[data-word]', button) || {}).textContent || button.getAttribute('aria-label') || button.textContent;
  const use = find('svg.icon use', button);
  return newAction(button.id || name, use ? use.getAttribute('href').replace('#icon-', '') : 'users', name, () => button.click());
}

/** One thing to do. */
export function newAction(key, iconName, name, go, about = '') {
  return {key: `action-${key}`, kind: 'action', group: 'actions', name, text: name, about, sign: () => icon(iconName, 18), go};
}
