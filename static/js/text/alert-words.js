/** The words of an alert, as everybody sees it. */

export const alertWords = {
  from: (name, time) => `Alert from ${name}, ${time}`,
  drillFrom: (name, time) => `Drill started by ${name}, ${time}`,
  drill: 'DRILL',
  drillText: 'This is a drill. Answer as you would if it were real.',
  urgent: 'ALERT',
  seen: 'I have seen this',
  sending: 'No link. Your answer is sent as soon as there is one.',
  noSound: 'Touch or click anywhere to hear the sound.',
  goingOn: 'Alert going on:',
  drillGoingOn: 'Drill going on:',
  showAgain: 'Show it again',
  rollCall: 'Roll-call',
  close: 'Close',
  over: 'The alert is over',
  drillOver: 'The drill is over',
};
