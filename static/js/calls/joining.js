/** Coming to a call and going from it, as one likes or as the server tells. */
import {ApiError, post} from '../core/api.js';
import {newId} from '../core/dom.js';
import {listen, state, tell, userName} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {toast} from '../views/toast.js';
import {active, changed, ownPart, setTrouble} from './active.js';
import {closeAll, openDevices} from './media.js';
import {Mesh} from './mesh.js';
import {markAnew, startShowing} from './showing.js';

/* How long (ms) one waits for the only other one to come back. */
const ALONE = 30000;

let alone = 0;
let leaving = null;

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
    await leaving;
    /* Each time another one, so that what an earlier load or an earlier stay sent is told apart. */
    const device = newId();
    const {call} = callId ? await post(`/calls/${callId}/join`, {device}) : await post('/calls', {channel_id: channelId, device});
    take(call, device);
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

/* News that knows of this stay is as new as the answer, and may be newer. */
function take(answered, device) {
  active.device = device;
  const told = state.calls.get(answered.id);
  const call = told && isInIt(told) ? told : answered;
  active.call = call;
  active.troubles.clear();
  active.mesh = new Mesh(call.id, device, {changed, lost: onLost});
  startShowing();
  state.calls.set(call.id, call);
  active.mesh.open(call.participants);
  tell('call', call);
  markAnew();
}

/** Leaves the call. */
export async function leaveCall() {
  const {call, device} = active;
  if (!call) return;
  end();
  leaving = tellLeft(call, device);
  await leaving;
}

/* What the server is not told it notices by itself. */
async function tellLeft(call, device) {
  try {
    await post(`/calls/${call.id}/leave`, {device});
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

function end() {
  clearTimeout(alone);
  active.mesh.close();
  closeAll();
  Object.assign(active, {call: null, mesh: null, marks: null, silent: false});
  changed();
}

/* The server put this page out: what was a nap is mended, all else is said. */
async function onLost(error) {
  const {call} = active;
  if (!call) return;
  if (error.code === 'not_in_call' && state.calls.has(call.id)) return rejoin(call);
  over(words.lost[error.code] || words.lost.other);
}

async function rejoin({id}) {
  const {mesh} = active;
  const device = newId();
  mesh.close();
  try {
    const {call} = await post(`/calls/${id}/join`, {device});
    /* Whoever hung up meanwhile stays away. */
    if (active.mesh === mesh) take(call, device);
    else await tellLeft(call, device);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (active.mesh === mesh) over(words.lost[error.code] || words.lost.other);
  }
}

/* A page that goes says so, as far as it still can. */
addEventListener('pagehide', () => {
  if (!active.call) return;
  fetch(`/calls/${active.call.id}/leave`, {
    method: 'POST', keepalive: true, credentials: 'same-origin', body: JSON.stringify({device: active.device}),
    headers: {'Content-Type': 'application/json'},
  });
});

/* -- what the server tells */

listen('call', onCall);
listen('snapshot', () => active.call && onCall(state.calls.get(active.call.id) || {...active.call, ended_at: Date.now()}));
listen('link', ({status}) => status === 'on' && active.call && markAnew());
addEventListener('online', () => active.mesh && active.mesh.signals.again());
document.addEventListener('visibilitychange', () => active.mesh && !document.hidden && active.mesh.signals.again());

function onCall(call) {
  if (!active.call || call.id !== active.call.id) return;
  if (call.ended_at !== null) return over(words.lost.call_ended);
  if (!isInIt(call)) return;
  active.call = call;
  active.mesh.meet(call.participants);
  changed();
  hangUpUnanswered(call);
  hangUpAlone(call);
}

/* News from before one joined may come late; that one was put out is heard by the signals. */
function isInIt(call) {
  const me = ownPart(call);
  return Boolean(me) && me.state === 'joined' && me.device === active.device;
}

function over(text) {
  end();
  toast(text, {name: 'phone'});
}

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

/* When the other one of two has gone, the call ends by itself, unless they come back. */
function hangUpAlone(call) {
  clearTimeout(alone);
  const others = call.participants.filter(one => one.user_id !== state.me.id);
  const channel = state.channels.get(call.channel_id);
  const isLeft = others.length === 1 && others[0].state === 'left' && channel && channel.kind === 'direct';
  setTrouble('alone', isLeft ? words.leftAlone(userName(others[0].user_id)) : '');
  if (isLeft) alone = setTimeout(leaveCall, ALONE);
}
