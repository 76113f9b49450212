/** The words of what waits for one: the panels of what is unread and of what names one. */

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

  noMentions: 'Nobody has named you yet',
  noMentionsText: name => `Messages with @${name}, @everyone or @here come together here, the newest first.`,
};
