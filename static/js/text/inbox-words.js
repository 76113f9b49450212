/** The words of what waits for one, in the panels of what is unread and of what names one; and of passing messages on. */

export const inboxWords = {
  loading: 'Loading…',
  noUnread: 'All is read',
  noUnreadText: 'What is new in your channels comes together here. Muted channels are left out.',
  markAllRead: 'Mark all read',
  markChannelRead: name => `Mark ${name} read`,
  allRead: 'All is marked read',
  channelRead: name => `${name} is marked read`,
  moreUnread: count => `${count} more in the channel`,
  unreadIn: (name, count) => `${name}, ${count} unread`,

  forward: 'Forward',
  forwardMessage: 'Forward message',
  forwardTo: 'To a channel or a person',
  nowhereToForward: query => `There is nowhere to write called “${query}”.`,
  comment: 'Comment, if you like',
  fromPrivate: 'This comes from a place that not everybody can read. Whom you forward it to will read it too.',
  placeOfOriginal: name => `in #${name}`,
  original: 'original message',
  forwardedTo: name => `Forwarded to ${name}`,

  noMentions: 'Nobody has named you yet',
  noMentionsText: name => `Messages with @${name}, @everyone or @here come together here, the newest first.`,
};
