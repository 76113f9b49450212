/** The sound of the others: one element for each voice and each sound of a screen. */
import {find, make} from '../core/dom.js';
import {listen} from '../core/state.js';
import {setTrouble} from './active.js';
import {chosenDevice} from './media.js';

const SOUNDS = ['microphone', 'sound'];
const elements = new Map();
const silent = new Set();

/** Plays what the peers send, and nothing else. */
export function playVoices(peers) {
  const wanted = new Map();
  for (const peer of peers.values()) {
    for (const name of SOUNDS) if (peer.remote[name]) wanted.set(`${peer.userId}-${name}`, peer.remote[name]);
  }
  for (const [key, element] of elements) if (!wanted.has(key)) drop(key, element);
  for (const [key, track] of wanted) play(key, track);
}

function drop(key, element) {
  element.srcObject = null;
  element.remove();
  elements.delete(key);
  silent.delete(element);
}

function play(key, track) {
  const known = elements.get(key);
  const [playing] = known ? known.srcObject.getTracks() : [];
  if (playing === track) return;
  const element = known || make('audio', {autoplay: true, className: 'call-voice', 'data-voice': key});
  elements.set(key, element);
  element.srcObject = new MediaStream([track]);
  if (!known) place().append(element);
  useSpeaker(element);
  start(element);
}

function place() {
  return find('#call-voices') || document.body.appendChild(make('div', {id: 'call-voices', hidden: true}));
}

/* Without a touch before, a browser may refuse to make any sound; the person is asked for one. */
async function start(element) {
  try {
    await element.play();
    silent.delete(element);
  } catch (error) {
    if (error.name !== 'NotAllowedError') return;
    silent.add(element);
  }
  setTrouble('autoplay', silent.size ? 'autoplay' : '');
}

/** Starts what the browser held back; call by a click. */
export function hearAll() {
  for (const element of [...silent]) start(element);
}

function useSpeaker(element) {
  if (element.setSinkId) element.setSinkId(chosenDevice('speaker')).catch(() => {});
}

/* A page that may use the microphone may also be heard. */
listen('own-media', hearAll);
listen('call-device', kind => kind === 'speaker' && [...elements.values()].forEach(useSpeaker));
