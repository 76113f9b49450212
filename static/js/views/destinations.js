/** Everywhere one can jump to: channels and people, the likeliest first, and what there is to do. */
import {find, findAll, icon, make} from '../core/dom.js';
import {addressOf, channelName, goTo, memberCount, state} from '../core/state.js';
import {kept} from '../core/store.js';
import {fitting, placesOf} from '../text/fuzzy.js';
import {keysWords} from '../text/keys-words.js';
import {words} from '../text/words.js';
import {avatar} from './avatar.js';
import {everybodyBut, startDirect} from './people.js';

const KIND_ICONS = {public: 'hash', private: 'lock', direct: 'users'};
/* For buttons that show faces. */
const FACE_ICONS = {members: 'users', profile: 'user'};
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
    sign: () => icon(KIND_ICONS[channel.kind], 18), go: () => goTo(addressOf(channel.id)),
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
    key: `person-${user.id}`, kind: 'person', name, userId: user.id, text: `${name} ${user.username} ${user.title || ''}`, channel,
    about: [user.title, user.id === state.me.id ? words.you : words.presence[user.presence || 'offline']].filter(Boolean).join(' · '),
    sign: () => avatar(user, 24, {presence: true}),
    go: () => channel ? goTo(addressOf(channel.id)) : startDirect([user.id]),
  };
}

/** What the buttons of the page do, as {key, kind, group, name, text, about, sign, go}. */
export function actions() {
  return findAll(BUTTONS).filter(button => !button.hidden).map(asAction);
}

function asAction(button) {
  const name = (find('[data-word]', button) || {}).textContent || button.getAttribute('aria-label') || button.textContent;
  const use = find('svg.icon use', button);
  return newAction(button.id || name, use ? use.getAttribute('href').replace('#icon-', '') : FACE_ICONS[button.id] || 'info', name, () => button.click());
}

/** One thing to do. */
export function newAction(key, iconName, name, go, about = '') {
  return {key: `action-${key}`, kind: 'action', group: 'actions', name, text: name, about, sign: () => icon(iconName, 18), go};
}

/** The places that a few letters mean; whose name fits comes before whose title does. */
export function byName(text, places) {
  const named = fitting(text, places, place => place.name);
  return [...named, ...fitting(text, places.filter(place => !named.includes(place)), place => place.text)];
}

/** A place as an option of a list, with the letters marked that were asked for. */
export function drawPlace(place, query) {
  return make('div', {id: idOf(place), className: 'jump-option', role: 'option'},
    make('span', {className: 'jump-sign'}, place.sign()),
    make('span', {className: 'jump-name ellipsis', dir: 'auto'}, ...highlighted(place.name, query)),
    make('small', {className: 'ellipsis', dir: 'auto'}, place.about), badgeOf(place));
}

/** The id of a place's option. */
export const idOf = place => `jump-${place.key}`;

function highlighted(text, query) {
  const parts = [];
  let at = 0;
  for (const [from, to] of placesOf(query, text)) {
    parts.push(text.slice(at, from), make('em', {}, text.slice(from, to)));
    at = to;
  }
  return [...parts, text.slice(at)].filter(Boolean);
}

function badgeOf({channel}) {
  const forMe = channel && channel.notify !== 'none' && (channel.kind === 'direct' ? channel.unread : channel.mentions);
  return forMe ? make('span', {className: 'badge', 'aria-label': words.mentionsYou(forMe)}, String(forMe)) : null;
}
