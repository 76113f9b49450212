/** The words of notifications, sounds and the settings about them. */

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export const notifyWords = {
  title: (name, channel) => `${name} in #${channel}`,
  newMessages: count => plural(count, 'new message', 'new messages'),
  sentFile: 'Sent a file',
  firstTitle: 'Notifications are on',
  firstText: 'This is how new messages are shown on this device.',

  missed: 'Somebody wrote to you while you were away.',
  offer: 'Notify me',

  notifications: 'Notifications',
  states: {
    on: {title: 'Notifications are on', text: 'New messages for you are shown by this device while MiniMost is open in some tab.', button: 'Turn off'},
    off: {title: 'Notifications are off', text: 'You turned them off on this device.', button: 'Turn on'},
    ask: {
      title: 'Show notifications on this device?',
      text: 'New messages for you are then shown on the screen while you do something else. Your browser will ask whether it may; nothing leaves this network.',
      button: 'Turn on notifications',
    },
    denied: {
      title: 'The browser blocks notifications from this address',
      text: 'To undo it, press the sign at the left of the address, choose the permissions of this site, allow notifications, and come back here.',
    },
    insecure: {
      title: 'Notifications cannot work over plain HTTP',
      text: 'Browsers show them only for addresses that begin with https. Sound, shaking and the count in the title of the tab still work.',
    },
    untrusted: {
      title: 'Notifications need a trusted certificate here',
      text: 'This device shows them only when it trusts the certificate of this server. '
        + 'Sound, shaking and the count in the title of the tab still work.',
      button: 'Try again',
      link: 'How to trust it',
    },
    unsupported: {
      title: 'This browser knows no notifications',
      text: 'On an iPhone or iPad, add MiniMost to the home screen first. Sound and the count in the title of the tab still work.',
    },
  },
  text: 'Show what was written',
  textHint: 'Off: a notification only says who wrote, and where',

  sounds: 'Sound',
  sound: 'Play a sound',
  soundHint: 'What is for you sounds different from the rest',
  voice: 'Kind of sound',
  voices: {bell: 'Bell', wood: 'Wood', drop: 'Drop'},
  volume: 'Volume',
  percent: value => `${value}%`,
  test: 'Listen',
  tests: {message: 'Message', mention: 'For you', call: 'Call'},
  vibrate: 'Shake the phone',

  what: 'What is for you',
  keywords: 'Keywords',
  keywordsHint: 'Words that count like a mention of you, parted by commas',
  keywordsExample: 'pump, loop B',
  levels: 'Channels',
  levelsLead: 'How you hear of a channel is chosen in its menu. These are not as usual:',
  levelsUsual: 'You hear of every message in all your channels. In the menu of a channel that can be changed.',
  levelOf: name => `Notify about ${name}`,

  quiet: 'Quiet hours',
  quietOn: 'Be quiet at set hours',
  quietHint: 'No notifications and no sounds; messages still arrive',
  quietTimes: 'Start and end',
  quietStart: 'Quiet hours start',
  quietEnd: 'Quiet hours end',
  quietDays: 'Days',
  quietDaysHint: 'A night belongs to the day it begins on',
};
