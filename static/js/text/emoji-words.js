/** The words of the emoji picker and of what is completed while one writes. */

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;
const tones = ['Without', 'Light', 'Medium-light', 'Medium', 'Medium-dark', 'Dark'];

export const emojiWords = {
  title: 'Emoji',
  search: 'Search emoji',
  groups: {
    used: 'Often used', people: 'Smileys and people', nature: 'Animals and nature', food: 'Food and drink', activity: 'Activities',
    travel: 'Travel and places', objects: 'Objects', symbols: 'Symbols', flags: 'Flags', found: 'Found',
  },
  nothing: 'No emoji fits.',
  skinTone: 'Skin tone',
  tones,
  inTone: (name, tone) => `${name}, ${tones[tone].toLowerCase()} skin tone`,

  suggestions: {people: 'People', channels: 'Channels', emoji: 'Emoji'},
  suggested: count => count ? plural(count, 'suggestion', 'suggestions') : 'No suggestions',
  outside: 'not in this channel',
  notTold: (names, count) => `${names} ${count === 1 ? 'is' : 'are'} not in this channel and ${count === 1 ? 'was' : 'were'} not told.`,
  calls: {everyone: 'Everybody in this channel', here: 'Everybody who is here now'},
};
