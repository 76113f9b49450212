/** Emoji by picture, shortcode and word. The table is large and comes when it is first asked for. */
import {emojiWords} from './emoji-words.js';

/* What a crew answers with: offered before anything was used, and named before the table has come. */
const FIRST = new Map([
  ['👍', 'thumbs up'], ['✅', 'check mark'], ['👀', 'eyes'], ['🙏', 'folded hands'], ['🎉', 'party popper'], ['❤️', 'red heart'],
  ['😂', 'face with tears of joy'], ['😮', 'face with open mouth'], ['👏', 'clapping hands'], ['😊', 'smiling face with smiling eyes'],
  ['🤔', 'thinking face'], ['😢', 'crying face'], ['👎', 'thumbs down'], ['💪', 'flexed biceps'], ['🔥', 'fire'], ['☕', 'hot beverage'],
  ['⚓', 'anchor'], ['🫡', 'saluting face'],
]);
export const FIRST_EMOJI = [...FIRST.keys()];

/* The five skin tones of the Fitzpatrick scale (Unicode TS 51, 2.4); the first place stands for none. */
const TONES = ['', ...'🏻🏼🏽🏾🏿'];
const TONE = /[\u{1F3FB}-\u{1F3FF}]/gu;
const BASE = /(\p{Emoji_Modifier_Base})\uFE0F?/gu;
/* These show several people, and no font has them in tones. */
const UNTONED = ['👪', '👯', '🤼'];
const LETTER_A = 0x1F1E6;

let table = null;
let loading = null;

/** The table: {groups: [{name, entries}], byCode, byEmoji}; an entry is {emoji, name, code, codes, words, text}. */
export function loadEmoji() {
  loading = loading || import('./emoji-data.js').then(takeIn, error => {
    loading = null;
    throw error;
  });
  return loading;
}

export const isEmojiLoaded = () => Boolean(table);

function takeIn({TABLE, REGIONS}) {
  const made = {groups: [], byCode: new Map(), byEmoji: new Map()};
  for (const [name, text] of Object.entries(TABLE)) made.groups.push({name, entries: text.split(';').map(entryOf)});
  made.groups.find(({name}) => name === 'flags').entries.push(...flags(REGIONS));
  for (const entry of made.groups.flatMap(group => group.entries)) {
    made.byEmoji.set(bare(entry.emoji), entry);
    entry.text = ` ${entry.codes.join(' ').replace(/_/g, ' ')} ${entry.words.join(' ')}`;
    for (const code of entry.codes) if (!made.byCode.has(code)) made.byCode.set(code, entry);
  }
  table = made;
  return made;
}

function entryOf(line) {
  const [emoji, codes, ...words] = line.trim().split(' ');
  const [first, second = first, ...others] = codes.split(',');
  return {emoji, name: first.replace(/_/g, ' '), code: second, codes: [...new Set([first, second, ...others])], words};
}

/* The browser knows what regions are called. */
function flags(regions) {
  const names = typeof Intl.DisplayNames === 'function' ? new Intl.DisplayNames(['en'], {type: 'region'}) : {of: region => region};
  return regions.match(/../g).map(region => {
    const emoji = String.fromCodePoint(...[...region].map(letter => LETTER_A + letter.charCodeAt(0) - 97));
    const name = names.of(region.toUpperCase());
    const code = `flag_${region}`;
    return {emoji, name, code, codes: [code, name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '_')], words: ['flag', region]};
  });
}

const bare = emoji => emoji.replace(TONE, '').replace(/\uFE0F/g, '');

/** The entry of an emoji in any skin tone, where the table is here and has it. */
export const emojiEntry = emoji => table && table.byEmoji.get(bare(emoji));

/** What an emoji is called, with its skin tone; one that nobody knows is its own name. */
export function emojiName(emoji) {
  const entry = emojiEntry(emoji);
  const name = entry ? entry.name : FIRST.get(emoji.replace(TONE, '')) || emoji;
  const tone = TONES.indexOf((emoji.match(TONE) || [''])[0]);
  return tone > 0 && name !== emoji ? emojiWords.inTone(name, tone) : name;
}

/** An emoji in a skin tone, 0 to 5; those without skin stay as they are. */
export function withTone(emoji, tone) {
  const bases = emoji.match(BASE) || [];
  return tone && bases.length === 1 && !UNTONED.includes(emoji) ? emoji.replace(BASE, `$1${TONES[tone]}`) : emoji;
}

/** The emoji of a shortcode without its colons, where the table is here and knows it. */
export function emojiOfCode(code, tone = 0) {
  const entry = table && table.byCode.get(code.toLowerCase());
  return entry ? withTone(entry.emoji, tone) : null;
}

/** The entries that some words mean, best first: by shortcode (a short one before a long one), by the start of each word, by parts of words. */
export function findEmoji(query) {
  const wanted = query.toLowerCase().trim().replace(/[\s_]+/g, '_');
  if (!wanted || !table) return [];
  const fits = entry => ({entry, rank: rankOf(entry, wanted), length: (codeFor(entry, wanted) || '').length});
  return table.groups.flatMap(group => group.entries.map(fits)).filter(({rank}) => rank < RANKS.length)
    .sort((one, other) => one.rank - other.rank || one.length - other.length).map(({entry}) => entry);
}

/** The shortest of an emoji's shortcodes that begin so. */
export const codeFor = ({codes}, start) => codes.filter(code => code.startsWith(start)).sort((one, other) => one.length - other.length)[0];

const RANKS = [
  (entry, wanted) => entry.codes.includes(wanted),
  (entry, wanted) => entry.words.includes(wanted),
  (entry, wanted) => entry.codes.some(code => code.startsWith(wanted)),
  (entry, wanted) => wanted.split('_').every(part => entry.text.includes(` ${part}`)),
  (entry, wanted) => wanted.split('_').every(part => entry.text.includes(part)),
];

function rankOf(entry, wanted) {
  const rank = RANKS.findIndex(fits => fits(entry, wanted));
  return rank < 0 ? RANKS.length : rank;
}
