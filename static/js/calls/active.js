/** The one call that this page takes part in: coming, going, and what one shows in it. */
import {ApiError, patch, post} from '../core/api.js';
import {newId} from '../core/dom.js';
import {channelName, listen, state, tell, userName} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {toast} from '../views/toast.js';
import {closeAll, closeDevice, closeScreen, openDevices, openScreen, own} from './media.js';
import {Mesh} from './mesh.js';

/* One page is one device: what an earlier load of it sent is told apart by this. */
const DEVICE = newId();

/** What this page takes part in: `call` as the server tells it, null when in none; `marks` as the others are to see them. */
export const active = {call: null, mesh: null, joining: false, marks: null, troubles: new Map()};

const QUIET = {muted: true, camera: false, sharing: false, hand: false};

/** Says that something has changed; who draws listens to `own-call`. */
const changed = () => tell('own-call', active.call);

/** Whether this page is in a call, or coming to one. */
export const isInCall = () => Boolean(active.call) || active.joining;

/**
 * Joins the call of {callId}, or starts or joins that of {channelId}. What runs of microphone, camera and screen is shown at once;
 * what of them is to be `opened` follows, so that nobody waits for the browser's question. Gives whether it went well.
 */
export async function joinCall({callId, channelId}, opened = []) {
  if (active.joining) return false;
  if (active.call) await leaveCall();
  if (typeof RTCPeerConnection !== 'function') return fail(words.trouble.noCalls);
  active.joining = true;
  changed();
  const opening = openDevices(opened);
  try {
    const {call} = callId ? await post(`/calls/${callId}/join`, {device: DEVICE}) : await post('/calls', {channel_id: channelId, device: DEVICE});
    take(call);
    explain(opening);
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    closeAll();
    return fail(error.message || words.trouble.noServer);
  } finally {
    active.joining = false;
    changed();
  }
}

async function explain(opening) {
  for (const [name, text] of Object.entries(await opening)) setTrouble(name, text);
}

function fail(text) {
  toast(text, {name: 'warn'});
  return false;
}

function take(call) {
  Object.assign(active, {call, marks: {...QUIET, ...shown()}});
  active.troubles.clear();
  active.mesh = new Mesh(call.id, DEVICE, {changed, lost: onLost});
  Object.assign(active.mesh.tracks, own);
  state.calls.set(call.id, call);
  active.mesh.open(call.participants);
  tell('call', call);
  mark(shown());
}

/* The marks follow what really runs. */
const shown = () => ({muted: !own.microphone || !own.microphone.enabled, camera: Boolean(own.camera), sharing: Boolean(own.screen)});

/** Leaves the call; what the server is not told it notices by itself. */
export async function leaveCall() {
  const {call} = active;
  if (!call) return;
  end();
  try {
    await post(`/calls/${call.id}/leave`, {device: DEVICE});
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

function end() {
  active.mesh.close();
  closeAll();
  Object.assign(active, {call: null, mesh: null, marks: null});
  changed();
}

/* The server put this page out: what was a nap is mended, all else is said. */
async function onLost(error) {
  const {call} = active;
  if (!call) return;
  if (error.code === 'not_in_call' && state.calls.has(call.id)) return rejoin(call);
  end();
  toast(words.lost[error.code] || words.lost.other, {name: 'phone'});
}

async function rejoin(call) {
  try {
    const answer = await post(`/calls/${call.id}/join`, {device: DEVICE});
    active.mesh.signals.open();
    onCall(answer.call);
    mark({});
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    end();
    toast(words.lost[error.code] || words.lost.other, {name: 'phone'});
  }
}

/* A page that goes says so, as far as it still can. */
addEventListener('pagehide', () => {
  if (!active.call) return;
  fetch(`/calls/${active.call.id}/leave`, {
    method: 'POST', keepalive: true, credentials: 'same-origin', body: JSON.stringify({device: DEVICE}),
    headers: {'Content-Type': 'application/json'},
  });
});

/* -- what the server tells */

listen('call', onCall);
listen('snapshot', () => active.call && onCall(state.calls.get(active.call.id) || {...active.call, ended_at: Date.now()}));
listen('link', ({status}) => status === 'on' && active.call && mark({}));
addEventListener('online', () => active.mesh && active.mesh.signals.again());
document.addEventListener('visibilitychange', () => active.mesh && !document.hidden && active.mesh.signals.again());

function onCall(call) {
  if (!active.call || call.id !== active.call.id) return;
  active.call = call;
  if (call.ended_at !== null) return over(words.lost.call_ended);
  const me = ownPart(call);
  if (me && me.state === 'joined' && me.device !== DEVICE) return over(words.lost.other_device);
  active.mesh.meet(call.participants);
  changed();
  hangUpUnanswered(call);
}

function over(text) {
  end();
  toast(text, {name: 'phone'});
}

const ownPart = call => call.participants.find(one => one.user_id === state.me.id);

/* Nobody comes any more: all who were rung have declined or missed it. */
function hangUpUnanswered(call) {
  const others = call.participants.filter(one => one.user_id !== state.me.id);
  if (!others.length || others.some(one => !['declined', 'missed'].includes(one.state))) return;
  const channel = state.channels.get(call.channel_id);
  if (!channel || channel.kind !== 'direct') return;
  leaveCall();
  const [{user_id: userId, state: reason}] = others;
  toast(others.length === 1 ? words.unanswered[reason](userName(userId)) : words.unanswered.all, {name: 'phone'});
}

/* -- what one shows */

let telling = false;

/* One request at a time; what changed meanwhile follows. */
async function mark(change) {
  Object.assign(active.marks, change);
  changed();
  if (telling) return;
  telling = true;
  try {
    while (active.call && isMarkedOtherwise()) await tellMarks();
  } finally {
    telling = false;
  }
}

function isMarkedOtherwise() {
  const me = ownPart(active.call);
  return !me || Object.keys(QUIET).some(name => me[name] !== active.marks[name]);
}

const marksOf = part => Object.fromEntries(Object.keys(QUIET).map(name => [name, Boolean(part && part[name])]));

async function tellMarks() {
  const {call, marks} = active;
  try {
    const answer = await patch(`/calls/${call.id}/me`, {...marks});
    if (active.call && active.call.id === call.id) active.call = answer.call;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.refused) return void (active.marks = marksOf(ownPart(call)));
    await new Promise(resolve => setTimeout(resolve, 2000));
  }
}

/** Says something that the person should know and can mend, or takes it back. */
export function setTrouble(name, text = '') {
  if ((active.troubles.get(name) || '') === text) return;
  if (text) active.troubles.set(name, text);
  else active.troubles.delete(name);
  changed();
}

/** Speaks, or is silent; without a microphone one is asked for it. */
export async function setMuted(muted) {
  if (!active.call) return;
  if (!muted) {
    const {microphone} = await openDevices(['microphone']);
    setTrouble('microphone', microphone);
  }
  if (own.microphone) own.microphone.enabled = !muted;
  if (active.call) mark(shown());
}

/** Shows one's camera, or nothing. */
export async function setCamera(on) {
  if (!on) closeDevice('camera');
  else setTrouble('camera', (await openDevices(['camera'])).camera);
}

/** Shares the screen, or stops. */
export async function setSharing(on) {
  if (!on) closeScreen();
  else setTrouble('screen', await openScreen());
}

export const raiseHand = hand => mark({hand});

listen('own-media', name => {
  if (!active.call) return;
  active.mesh.put(name, own[name]);
  mark(shown());
});

/* Pulled out: another microphone takes over, as silent as the first was; a camera or a screen that ends has ended. */
listen('own-media-ended', async ({name, enabled}) => {
  if (!active.call) return;
  if (name === 'screen') closeScreen();
  if (name === 'microphone') setTrouble(name, (await openDevices([name], {enabled})).microphone);
});

/** What the place of a call is called. */
export function placeOf(call) {
  const channel = state.channels.get(call.channel_id);
  if (!channel) return words.elsewhere;
  return channel.kind === 'direct' ? channelName(channel) : `#${channelName(channel)}`;
}
