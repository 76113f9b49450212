/** The words of the keyboard: moving about, the quick switcher, the list of shortcuts. */

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export const keysWords = {
  jumpTo: 'Jump to a channel or a person',
  results: count => plural(count, 'result', 'results'),
  noResults: query => `Nothing here is called “${query}”.`,
  searchFor: query => `Search messages for “${query}”`,
  groups: {unread: 'Unread', recent: 'Recent', all: 'Channels and people', actions: 'Do something'},
  unreadCount: count => `${count} unread`,
  privateChannel: members => `private, ${members}`,
  notJoined: members => `not joined, ${members}`,
  archived: 'archived',
  hints: [['↑ ↓', 'choose'], ['Enter', 'open'], ['#', 'channels only'], ['@', 'people only'], ['>', 'actions']],
  useTheme: {dark: 'Switch to the dark theme', light: 'Switch to the light theme'},
  theme: 'theme',

  shortcuts: 'Keyboard shortcuts',
  previousChannel: 'Previous channel',
  nextChannel: 'Next channel',
  previousUnread: 'Previous unread channel',
  nextUnread: 'Next unread channel',
  noUnread: 'Everything is read',
  jumpToLatest: 'Go to the latest message and mark the channel read',
};
