/** The words of the connection check. */

const seconds = count => count < 120 ? `${count} s` : `${Math.round(count / 60)} min`;

export const checkWords = {
  title: 'Connection check',
  lead: 'Whether this browser has all that chat and calls need, on this network.',
  again: 'Check again',
  copy: 'Copy report',
  copied: 'Report copied',
  waiting: 'Checking …',
  states: {ok: 'Fine', warn: 'Not ideal', bad: 'Does not work', waiting: '…'},
  line: (state, label, sentence, remedy) => `${state}: ${label}. ${[sentence, remedy].filter(Boolean).join(' ')}`,
  done: (warnings, failures) => failures || warnings ? `Checked: ${failures} do not work, ${warnings} are not ideal.` : 'Checked: all is fine.',

  server: 'Reaching the server',
  serverFast: time => `It answers within ${time} ms.`,
  serverSlow: time => `It takes ${time} ms to answer.`,
  serverSlowRemedy: 'The network is slow here: move closer to the access point, or use a cable.',
  serverGone: 'It does not answer.',
  serverGoneRemedy: 'See that this device is on the right network, and ask whether the server runs.',

  secure: 'Encryption',
  secureYes: 'This page came over HTTPS.',
  secureNo: 'This page came over plain HTTP: others on the network can read along.',
  secureNoRemedy: 'Open the address with https:// in front. Calls, voice messages and notifications need it.',
  secureHere: 'This page comes from this very machine.',

  clock: 'Clock',
  clockRight: 'This device and the server tell the same time.',
  clockWrong: (count, ahead) => `This device is ${seconds(count)} ${ahead ? 'ahead of' : 'behind'} the server.`,
  clockWrongRemedy: 'Set the clock that is wrong: certificates are refused where the time is far off.',
  clockUnknown: 'The server did not say its time.',

  calls: 'Calls (UDP)',
  callsFine: port => `UDP port ${port} of the server answers.`,
  callsSilent: port => `UDP port ${port} of the server does not answer.`,
  callsSilentRemedy: port => `Ask the operator to open UDP port ${port} in the firewall of the server. Until then some calls do not connect.`,
  callsOff: 'The server answers no such questions.',
  callsOffRemedy: 'Without a router on the network some calls do not connect. The operator can set stun_port.',
  callsNever: 'This browser cannot make calls.',
  callsNeverRemedy: 'Use a newer browser, or allow WebRTC in its settings.',

  microphone: 'Microphone',
  microphoneReady: 'There is one, and this page may use it.',
  microphoneAsks: 'There is one. The browser asks you before its first use.',
  microphoneNone: 'No microphone is connected.',
  microphoneNoneRemedy: 'You can still listen in calls. To speak, connect one.',
  microphoneDenied: 'The browser does not let this page use the microphone.',
  microphoneDeniedRemedy: 'Allow it for this page, at the left end of the address bar.',
  microphoneHidden: 'The browser offers a microphone to encrypted pages only.',

  notifications: 'Notifications',
  notificationsOn: 'The browser shows them.',
  notificationsAsk: 'The browser has not been asked yet.',
  notificationsAskRemedy: 'Turn them on in the settings under Notifications.',
  notificationsDenied: 'The browser does not let this page show them.',
  notificationsDeniedRemedy: 'Allow them for this page, at the left end of the address bar.',
  notificationsNever: 'This browser shows none for this page.',
};
