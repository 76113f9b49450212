/** Settings: what this browser has of what chat and calls need, and what to do about the rest. */
import {get} from '../core/api.js';
import {copyText, find, icon, make, setSlot} from '../core/dom.js';
import {state} from '../core/state.js';
import {checkWords as words} from '../text/check-words.js';
import {settingRow} from '../views/setting-controls.js';
import {addSettingsSection} from '../views/settings.js';
import {toast} from '../views/toast.js';

const TRIES = 3;
const SLOW = 300;
const SAME_TIME = 60;
const STUN_PATIENCE = 3000;
const ICONS = {ok: 'check', warn: 'warn', bad: 'x', waiting: 'clock'};

addSettingsSection({name: 'connection-check', icon: 'plug', label: words.title, order: 60, draw: drawCheck});

const fine = sentence => ({state: 'ok', sentence, remedy: ''});
const warn = (sentence, remedy) => ({state: 'warn', sentence, remedy});
const bad = (sentence, remedy) => ({state: 'bad', sentence, remedy});

/* Each looks for itself; `answer` is what came of asking the server for the time. */
const CHECKS = [
  {label: words.server, look: async answer => judgeServer(await answer)},
  {label: words.secure, look: judgeSecurity},
  {label: words.clock, look: async answer => judgeClock(await answer)},
  {label: words.calls, look: checkCalls},
  {label: words.microphone, look: checkMicrophone},
  {label: words.notifications, look: judgeNotifications},
];

function drawCheck(body) {
  const rows = CHECKS.map(({label}) => settingRow(label, '', make('span', {className: 'tag'})));
  const again = make('button', {type: 'button', className: 'button secondary'}, words.again);
  const copy = make('button', {type: 'button', className: 'button secondary'}, words.copy);
  const said = make('p', {className: 'visually-hidden', role: 'status'});
  let findings = [];
  const check = async () => {
    again.disabled = copy.disabled = true;
    findings = await checkAll(rows);
    again.disabled = copy.disabled = false;
    said.textContent = words.done(...['warn', 'bad'].map(name => findings.filter(one => one.state === name).length));
  };
  again.addEventListener('click', check);
  copy.addEventListener('click', async () => {
    await copyText(report(findings));
    toast(words.copied, {name: 'copy'});
  });
  body.append(make('p', {className: 'lead'}, words.lead), ...rows, make('div', {className: 'form-buttons'}, copy, again), said);
  check();
}

function checkAll(rows) {
  const answer = askForTime();
  return Promise.all(CHECKS.map(async ({label, look}, index) => {
    showFinding(rows[index], {state: 'waiting', sentence: words.waiting, remedy: ''});
    const finding = await look(answer);
    showFinding(rows[index], finding);
    return {label, ...finding};
  }));
}

function showFinding(row, finding) {
  setSlot(row, 'hint', [finding.sentence, finding.remedy].filter(Boolean).join(' '));
  const tag = find('.tag', row);
  tag.className = `tag ${finding.state}`;
  tag.replaceChildren(icon(ICONS[finding.state], 13), words.states[finding.state]);
}

function report(findings) {
  const lines = findings.map(one => words.line(words.states[one.state], one.label, one.sentence, one.remedy));
  return [location.origin, new Date().toISOString(), navigator.userAgent, ...lines].join('\n');
}

/* -- the server and its clock */

/* The quickest of a few answers tells both best; null when there is none. */
async function askForTime() {
  const answers = [];
  for (let number = 0; number < TRIES; number++) {
    const begun = performance.now();
    const answer = await get('/welcome').catch(() => null);
    if (answer) answers.push({time: performance.now() - begun, ahead: Date.now() - answer.server.now});
  }
  return answers.sort((one, other) => one.time - other.time)[0] || null;
}

function judgeServer(answer) {
  if (!answer) return bad(words.serverGone, words.serverGoneRemedy);
  const time = Math.ceil(answer.time);
  return time < SLOW ? fine(words.serverFast(time)) : warn(words.serverSlow(time), words.serverSlowRemedy);
}

function judgeClock(answer) {
  if (!answer) return warn(words.clockUnknown, words.serverGoneRemedy);
  const difference = Math.round(Math.abs(answer.ahead - answer.time / 2) / 1000);
  return difference < SAME_TIME ? fine(words.clockRight) : warn(words.clockWrong(difference, answer.ahead > 0), words.clockWrongRemedy);
}

function judgeSecurity() {
  if (location.protocol === 'https:') return fine(words.secureYes);
  return window.isSecureContext ? fine(words.secureHere) : bad(words.secureNo, words.secureNoRemedy);
}

/* -- calls */

async function checkCalls() {
  const port = state.server.stun;
  if (!port) return warn(words.callsOff, words.callsOffRemedy);
  if (!window.RTCPeerConnection) return bad(words.callsNever, words.callsNeverRemedy);
  const answered = await isAnswered(`stun:${location.hostname}:${port}`);
  return answered ? fine(words.callsFine(port)) : bad(words.callsSilent(port), words.callsSilentRemedy(port));
}

/* A browser keeps an address to itself that it knew already, but without an answer it goes on asking. */
async function isAnswered(address) {
  const connection = new RTCPeerConnection({iceServers: [{urls: address}]});
  try {
    connection.createDataChannel('');
    const gathered = new Promise(resolve => {
      let failed = false;
      connection.addEventListener('icecandidateerror', () => { failed = true; });
      connection.addEventListener('icecandidate', ({candidate}) => {
        if (!candidate) resolve(!failed);
        else if (candidate.type === 'srflx') resolve(true);
      });
      setTimeout(resolve, STUN_PATIENCE, false);
    });
    await connection.setLocalDescription(await connection.createOffer());
    return await gathered;
  } finally {
    connection.close();
  }
}

/* -- what the browser allows */

async function checkMicrophone() {
  if (!navigator.mediaDevices) return bad(words.microphoneHidden, words.secureNoRemedy);
  const permission = await permissionFor('microphone');
  if (permission === 'denied') return warn(words.microphoneDenied, words.microphoneDeniedRemedy);
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  if (!devices.some(device => device.kind === 'audioinput')) return warn(words.microphoneNone, words.microphoneNoneRemedy);
  return fine(permission === 'granted' ? words.microphoneReady : words.microphoneAsks);
}

/* Some browsers do not say what is allowed until they are asked for the thing itself. */
async function permissionFor(name) {
  try {
    return (await navigator.permissions.query({name})).state;
  } catch (error) {
    return 'prompt';
  }
}

function judgeNotifications() {
  if (!window.isSecureContext || !window.Notification) return warn(words.notificationsNever, window.isSecureContext ? '' : words.secureNoRemedy);
  if (Notification.permission === 'granted') return fine(words.notificationsOn);
  if (Notification.permission === 'denied') return warn(words.notificationsDenied, words.notificationsDeniedRemedy);
  return warn(words.notificationsAsk, words.notificationsAskRemedy);
}
