/** The words of what comes after the first look, apart from the others so that nobody waits for them. */

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export const laterWords = {
  addReaction: 'Add a reaction',
  reactWith: name => `React: ${name}`,
  reactedWith: (name, count, who) => `${name}, ${count}: ${who}`,
  you: 'You',
  others: count => plural(count, 'other', 'others'),

  searchHelp: 'Words, parts of words, or “a phrase”. Filters such as from:ann and before:2026-01-31 narrow it down.',
  searchFilters: {in: name => `In #${name}`, from: 'From…', file: 'Files', link: 'Links'},
  searchFiltersTitle: 'Filters',
  foundMessages: (count, more) => more ? `The newest ${count} results` : plural(count, 'result', 'results'),
  nothingFound: query => `Nothing found for “${query}”`,
  showMore: 'Show more',

  pin: 'Pin to channel',
  unpin: 'Unpin',
  pinned: 'Pinned',
  pinnedMessages: count => plural(count, 'pinned message', 'pinned messages'),
  noPins: 'Nothing is pinned here',
  noPinsText: 'What everybody has to find again is pinned from the menu of a message.',

  save: 'Save for later',
  unsave: 'Remove from saved',
  savedNow: 'Saved for later',
  unsavedNow: 'Removed from saved',
  noSaved: 'Nothing saved yet',
  noSavedText: 'What you want to come back to is saved from the menu of a message. Only you see it.',

  seenBy: 'Seen by',
  seenByNobody: 'Nobody has seen this yet.',
};
