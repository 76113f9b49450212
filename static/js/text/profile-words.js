/** The words about people: who they are, what they say of themselves, whether they may be disturbed. */

export const profileWords = {
  showProfile: 'Show profile',
  profileOf: name => `Profile of ${name}`,
  presence: {active: 'Active', idle: 'Idle', dnd: 'Do not disturb', offline: 'Offline'},
  lastSeen: time => `Last seen ${time}`,
  admin: 'Admin',
  accountClosed: 'This account is closed.',

  setStatus: 'Set a status…',
  clearStatus: 'Clear status',
  statusTitle: 'What are you up to?',
  statusText: 'Status',
  statusEmoji: emoji => `Emoji: ${emoji}. Choose another`,
  suggestions: 'Suggestions',
  suggested: [
    {emoji: '⚓', text: 'On watch', ends: '240'},
    {emoji: '🔧', text: 'In the engine room', ends: '60'},
    {emoji: '🍽️', text: 'At lunch', ends: '30'},
    {emoji: '🗓️', text: 'In a meeting', ends: '60'},
    {emoji: '🔬', text: 'In the lab', ends: '240'},
    {emoji: '😴', text: 'Asleep', ends: '480'},
    {emoji: '🚶', text: 'Ashore', ends: 'today'},
    {emoji: '🤒', text: 'Off sick', ends: 'today'},
  ],
  ends: 'Ends',
  endsAfter: {
    never: 'Never', 30: 'After 30 minutes', 60: 'After 1 hour', 240: 'After 4 hours', 480: 'After 8 hours', today: 'Today, at midnight',
    chosen: 'At a time of my choice',
  },
  lasting: {30: '30 minutes', 60: '1 hour', 240: '4 hours', 480: '8 hours', today: 'today'},
  endsAt: 'Ends at',
  endMissing: 'Choose a time that is still to come.',

  doNotDisturb: 'Do not disturb',
  doNotDisturbFor: {30: 'For 30 minutes', 60: 'For 1 hour', 240: 'For 4 hours', today: 'Until midnight', never: 'Until I turn it off'},
};
