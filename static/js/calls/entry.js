/** Where the page enters calls: opening one, coming back to one, being rung. */
import {state} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {ask} from '../views/dialog.js';
import {active, isInCall, placeOf} from './active.js';
import {joinCall, leaveCall} from './joining.js';
import {lookBefore} from './before.js';
import {closeAll} from './media.js';
import {offerReport} from './report.js';
import {showRinging} from './ringing.js';
import {enlarge, startStage} from './stage.js';
import {styled} from './style.js';

let looking = false;

startStage();
offerReport();

/** Comes to the call of a channel, or begins one; what one shows is decided first. */
export async function openCall(channelId) {
  if (active.call && active.call.channel_id === channelId) return enlarge();
  const isGoing = [...state.calls.values()].some(call => call.channel_id === channelId);
  if (looking || active.joining || !await mayChange()) return;
  looking = true;
  try {
    await styled();
    const opened = await lookBefore({channel_id: channelId}, isGoing);
    if (opened) await joinCall({channelId}, opened);
  } finally {
    looking = false;
    if (!isInCall()) closeAll();
  }
}

async function mayChange() {
  if (!active.call) return true;
  const yes = await ask(words.switchQuestion, words.switchText(placeOf(active.call)), words.switchNow);
  if (yes) await leaveCall();
  return yes;
}

/** Comes back to a call that an earlier load of this page was in, as it was: heard, if the browser allows. */
export async function rejoin(call) {
  if (isInCall()) return;
  await styled();
  await joinCall({callId: call.id}, ['microphone']);
}

/** Rings for a call, or stops ringing for it. */
export async function ring(call) {
  await styled();
  showRinging(call, async ({camera}) => {
    if (!await mayChange()) return;
    await joinCall({callId: call.id}, camera ? ['microphone', 'camera'] : ['microphone']);
  });
}
