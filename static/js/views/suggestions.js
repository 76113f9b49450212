/** What can complete a word while it is written: people after @, channels after #, emoji after a colon. */
import {ApiError, get} from '../core/api.js';
import {icon, make} from '../core/dom.js';
import {preference} from '../core/preferences.js';
import {listen, openChannel, state} from '../core/state.js';
import {codeFor, findEmoji, isEmojiLoaded, loadEmoji, withTone} from '../text/emoji.js';
import {emojiWords as words} from '../text/emoji-words.js';
import {fitting} from '../text/fuzzy.js';
import {avatar} from './avatar.js';
import {everybodyBut} from './people.js';

const MOST = 8;
const GLYPH = 20;

/**
 * Where a word begins that can be completed. `find(query)` gives {text, mark, name, about, note} each, best first: what is known now;
 * `prepare()` promises that there will be more, and gives nothing when all is here.
 */
const SOURCES = [
  {name: 'people', pattern: /(?:^|[^\p{L}\p{N}@\\])@([\p{L}\p{N}_-]{0,32})$/u, find: findPeople, prepare: prepareMembers},
  {name: 'channels', pattern: /(?:^|[\s(])#([\p{L}\p{N}_.-]{0,40})$/u, find: findChannels, prepare: () => null},
  {name: 'emoji', pattern: /(?:^|[^\p{L}\p{N}:\\]):([a-z0-9_+-]{2,32})$/iu, find: findShortcodes, prepare: () => isEmojiLoaded() ? null : loadEmoji()},
];
const CODE = /(?:^|[^\p{L}\p{N}:\\]):([a-z0-9_+-]{1,40}):$/iu;

/** What the text before the caret asks for: {source, query, start}, or nothing; never in code. */
export function questionAt(before) {
  for (const source of SOURCES) {
    const match = source.pattern.exec(before);
    if (match && !endsInCode(before)) return {source, query: match[1], start: before.length - match[1].length - 1};
  }
  return null;
}

/** The shortcode that ends here with its second colon: {code, start}, or nothing; never in code. */
export function shortcodeAt(before) {
  const match = CODE.exec(before);
  return match && !endsInCode(before) ? {code: match[1], start: before.length - match[1].length - 2} : null;
}

/* An odd number of fences, or of backticks in the line, has begun and not ended. */
function endsInCode(before) {
  const fences = before.match(/^\s*```/gm) || [];
  const ticks = before.slice(before.lastIndexOf('\n') + 1).match(/`/g) || [];
  return fences.length % 2 === 1 || ticks.length % 2 === 1;
}

/* -- people: those of the channel first, the others marked */

/* Who is in the public channels; the others say so themselves. */
const members = new Map();
const asking = new Map();
for (const topic of ['snapshot', 'channel']) listen(topic, channel => channel ? members.delete(channel.id) : members.clear());

const membersOf = channel => channel.members || members.get(channel.id);

/* Asked once, however fast the letters come. */
function prepareMembers() {
  const channel = openChannel();
  if (!channel || membersOf(channel)) return null;
  if (!asking.has(channel.id)) asking.set(channel.id, fetchMembers(channel.id));
  return asking.get(channel.id);
}

async function fetchMembers(channelId) {
  try {
    members.set(channelId, (await get(`/channels/${channelId}/members`)).users);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  } finally {
    asking.delete(channelId);
  }
}

function findPeople(query) {
  const channel = openChannel();
  const inside = channel && membersOf(channel);
  const isInside = user => !inside || inside.includes(user.id);
  const people = fittingBest(query, everybodyBut([state.me.id]), user => `${user.username} ${user.display_name || ''}`);
  const sorted = [...people.filter(isInside), ...people.filter(user => !isInside(user))];
  const calls = callsFor(query, channel);
  return [...sorted.slice(0, MOST - calls.length).map(user => personOption(user, isInside(user))), ...calls];
}

/* Letters that lie side by side mean what they say: then scattered ones are noise. */
function fittingBest(query, things, textOf) {
  const found = fitting(query, things, textOf);
  const exact = found.filter(thing => textOf(thing).toLowerCase().includes(query.toLowerCase()));
  return exact.length ? exact : found;
}

function personOption(user, isInside) {
  const name = user.display_name || user.username;
  return {text: `@${user.username} `, mark: avatar(user, GLYPH), name, about: `@${user.username}`, note: isInside ? '' : words.outside};
}

/* Guests call nobody but by name. */
function callsFor(query, channel) {
  if (state.me.role === 'guest' || !channel || channel.kind === 'direct') return [];
  return Object.entries(words.calls).filter(([name]) => name.startsWith(query.toLowerCase()))
    .map(([name, about]) => ({text: `@${name} `, mark: icon('users', 18), name: `@${name}`, about, note: ''}));
}

/* -- channels and emoji */

function findChannels(query) {
  const channels = [...state.channels.values()].filter(channel => channel.kind !== 'direct' && !channel.archived);
  return fittingBest(query, channels, channel => channel.name).slice(0, MOST)
    .map(({name, kind, topic}) => ({text: `#${name} `, mark: icon(kind === 'private' ? 'lock' : 'hash', 18), name, about: topic || '', note: ''}));
}

function findShortcodes(query) {
  return findEmoji(query).slice(0, MOST).map(entry => {
    const emoji = withTone(entry.emoji, preference('skin_tone', 0));
    const code = codeFor(entry, query.toLowerCase()) || entry.code;
    const about = code.replace(/_/g, ' ') === entry.name ? '' : entry.name;
    return {text: `${emoji} `, mark: make('span', {className: 'glyph'}, emoji), name: `:${code}:`, about, note: ''};
  });
}
