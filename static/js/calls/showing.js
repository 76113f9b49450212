/** What one shows in a call, and the marks by which the others know it. */
import {ApiError, patch} from '../core/api.js';
import {listen} from '../core/state.js';
import {active, changed, ownPart, setTrouble} from './active.js';
import {closeDevice, closeScreen, openDevices, openScreen, own} from './media.js';

const QUIET = {muted: true, camera: false, sharing: false, hand: false};
const RETRY = 2000;

/* The marks follow what really runs. */
const shown = () => ({muted: !own.microphone || !own.microphone.enabled, camera: Boolean(own.camera), sharing: Boolean(own.screen)});

/** Begins to show what runs, in a call that was just joined. */
export function startShowing() {
  active.marks = {...QUIET, ...shown()};
  Object.assign(active.mesh.tracks, own);
}

/** Has the others know what is shown now, where the server has not heard it yet. */
export const markAnew = () => mark(shown());

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
  return Object.keys(QUIET).some(name => me[name] !== active.marks[name]);
}

const marksOf = part => Object.fromEntries(Object.keys(QUIET).map(name => [name, Boolean(part && part[name])]));

/* Of the others the news may know more than an answer that it overtook. */
function markedAs(marks) {
  const {call} = active;
  const me = ownPart(call);
  return {...call, participants: call.participants.map(one => (one === me ? {...me, ...marks} : one))};
}

async function tellMarks() {
  const {call, marks} = active;
  try {
    const answer = await patch(`/calls/${call.id}/me`, {...marks});
    if (active.call && active.call.id === call.id) active.call = markedAs(marksOf(ownPart(answer.call)));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.refused) return void (active.marks = marksOf(ownPart(call)));
    await new Promise(resolve => setTimeout(resolve, RETRY));
  }
}

/** Speaks, or is silent; without a microphone one is asked for it, and may have thought better of it before it is there. */
export async function setMuted(muted) {
  if (!active.call) return;
  active.silent = muted;
  if (!muted) setTrouble('microphone', (await openDevices(['microphone'])).microphone);
  heed();
  if (active.call) mark(shown());
}

/* Whichever way a microphone came to be open. */
function heed() {
  if (own.microphone) own.microphone.enabled = !active.silent;
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
  heed();
  active.mesh.put(name, own[name]);
  mark(shown());
});

/* Pulled out: another microphone takes over; a camera or a screen that ends has ended. */
listen('own-media-ended', async name => {
  if (!active.call) return;
  if (name === 'screen') closeScreen();
  if (name === 'microphone') setTrouble(name, (await openDevices([name])).microphone);
});
