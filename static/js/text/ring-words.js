/** The few words that stand on the page before a call is begun. */

const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

export const ringWords = {
  call: 'Call',
  join: 'Join',
  startCall: 'Start a call',
  joinCall: count => `Join the call: ${plural(count, 'person', 'people')}`,
  backToCall: 'Back to the call',
  callGoesOn: count => `Call: ${plural(count, 'person', 'people')}`,
  going: 'A call is going on.',
  inIt: names => `${names} ${names.includes(' and ') || names.includes(',') ? 'are' : 'is'} in it.`,
  between: last => last ? ' and ' : ', ',
  others: count => plural(count, 'other', 'others'),
  held: time => `held a call · ${time}`,
  missed: 'called · nobody answered',
  callBack: 'Call back',
  callAgain: 'Call again',
  seconds: count => `${count} s`,
  minutes: (minutes, seconds) => `${minutes}:${String(seconds).padStart(2, '0')} min`,
  hours: (hours, minutes) => `${hours} h ${minutes} min`,
  wereInCall: 'You were in a call that goes on.',
  rejoin: 'Rejoin',
  notLoaded: 'The call could not be loaded. Check the link to the server, then try again.',
};
