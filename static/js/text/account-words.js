/** The words of one's own account: profile, picture, password, devices, and how to leave. */

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export const accountWords = {
  profile: 'Profile',
  profileLead: 'This is what others see of you.',
  displayName: 'Name',
  displayNameMissing: 'Write the name that others know you by.',
  title: 'Title',
  titleHint: 'Your work, or your watch.',
  bio: 'About you',
  color: 'Colour of your flag',
  colors: {petrol: 'Petrol', rust: 'Rust', brass: 'Brass', plum: 'Plum', navy: 'Navy', moss: 'Moss', slate: 'Slate', rose: 'Rose'},
  profileSaved: 'Profile saved',
  uploadPicture: 'Upload a picture…',
  removePicture: 'Remove the picture',
  pictureHint: 'Cut to a square before it is sent. Without one, your flag is shown.',
  notAPicture: name => `${name} is no picture that this browser can read.`,
  pictureTooLarge: limit => `The picture is too large; the limit is ${limit}.`,
  cropTitle: 'Cut out your picture',
  cropHelp: 'Drag the picture, or move it with the arrow keys.',
  zoom: 'Zoom',
  usePicture: 'Use this picture',

  password: 'Password',
  passwordLead: 'A new password signs out all your other devices.',
  currentPassword: 'Current password',
  newPassword: 'New password',
  changePassword: 'Change password',
  passwordChanged: 'Password changed. Other devices are signed out.',

  devices: 'Signed-in devices',
  devicesLead: 'Whoever holds one of these can read and write as you.',
  device: (browser, system) => system ? `${browser} on ${system}` : browser,
  unknownDevice: 'Unknown program',
  browsers: [
    [/Edg\//, 'Edge'], [/OPR\//, 'Opera'], [/SamsungBrowser/, 'Samsung Internet'], [/Firefox\/|FxiOS/, 'Firefox'],
    [/Chrome\/|Chromium|CriOS/, 'Chrome'], [/Safari\//, 'Safari'], [/^curl/, 'curl'], [/[Pp]ython/, 'A Python program'],
  ],
  systems: [
    [/iPhone/, 'iPhone'], [/iPad/, 'iPad'], [/Android/, 'Android'], [/Windows/, 'Windows'], [/CrOS/, 'ChromeOS'], [/Mac OS X|Macintosh/, 'macOS'],
    [/Linux/, 'Linux'],
  ],
  aboutDevice: (address, used, since) => [address, used, since].filter(Boolean).join(' · '),
  activeNow: 'active now',
  activeBefore: seconds => {
    if (seconds < 3600) return `active ${plural(Math.floor(seconds / 60), 'minute', 'minutes')} ago`;
    if (seconds < 86400) return `active ${plural(Math.floor(seconds / 3600), 'hour', 'hours')} ago`;
    return `active ${plural(Math.floor(seconds / 86400), 'day', 'days')} ago`;
  },
  signedInOn: day => `signed in on ${day}`,
  thisDevice: 'This device',
  endSession: 'Sign out',
  endSessionOf: device => `Sign out ${device}`,
  endSessionQuestion: device => `Sign out ${device}?`,
  endSessionExplained: 'It has to sign in again. What was being written there stays.',
  sessionEnded: device => `Signed out: ${device}`,
  endOthers: 'Sign out all others',
  endOthersQuestion: count => `Sign out ${plural(count, 'other device', 'other devices')}?`,
  othersEnded: 'All other devices are signed out.',

  deleteAccount: 'Delete account',
  deleteLead: 'Your name, picture and profile go for good, on all devices. This cannot be undone.',
  ownMessages: 'Your messages',
  messagesLater: {keep: 'Stay, under the name “Deleted account”', delete: 'Are deleted as well, with their files'},
  passwordAgain: 'Your password',
  deleteQuestion: name => `Delete the account of ${name}?`,
  deleteExplained: {
    keep: 'You can never sign in with it again. Your messages stay, under another name.',
    delete: 'You can never sign in with it again. Your messages and files go with it.',
  },
};
