/** Microphone, camera and screen of this device: opened when wanted, used again as long as they run, and closed. */
import {keepForDevice, keptForDevice} from '../core/store.js';
import {listen, tell} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';

/** What runs now, by name; null is off. */
export const own = {microphone: null, camera: null, screen: null, sound: null};

/* What is to be open, by name: the browser may ask for long, and what comes after it was closed is closed at once. */
const wanted = new Set();

/** Which device is to be used, as the browser calls it: 'microphone', 'camera' or 'speaker'; '' is the usual one. */
export const chosenDevice = kind => keptForDevice(`call-${kind}`) || '';

/** Chooses a device for this browser, for now and for later. */
export function chooseDevice(kind, id) {
  keepForDevice(`call-${kind}`, id || null);
  tell('call-device', kind);
}

/** Why this page can use no microphone, camera or screen at all; '' where it can. */
export function obstacle() {
  if (!window.isSecureContext) return words.trouble.insecure;
  return navigator.mediaDevices ? '' : words.trouble.unsupported;
}

const WANTED = {
  microphone: () => ({audio: {...exactly('microphone'), echoCancellation: true, noiseSuppression: true, autoGainControl: true}}),
  camera: () => ({video: {...exactly('camera'), width: {ideal: 960}, height: {ideal: 540}, frameRate: {max: 30}}}),
};

/* A device that was chosen and is not there must not keep one from the call. */
const exactly = kind => chosenDevice(kind) ? {deviceId: {ideal: chosenDevice(kind)}} : {};

/**
 * Opens those of 'microphone' and 'camera' that do not run yet, with one question to the person.
 * Gives {name: sentence} of what could not be opened; empty when all went well.
 */
export async function openDevices(names) {
  const missing = names.filter(name => !own[name]);
  if (!missing.length) return {};
  if (obstacle()) return Object.fromEntries(missing.map(name => [name, obstacle()]));
  for (const name of missing) wanted.add(name);
  const error = await tryToOpen(missing);
  if (!error) return {};
  if (missing.length === 1) return {[missing[0]]: explain(missing[0], error)};
  /* One of two may be what fails. */
  const troubles = [];
  for (const name of missing) if (wanted.has(name)) troubles.push(await openDevices([name]));
  return Object.assign({}, ...troubles);
}

async function tryToOpen(names) {
  try {
    const stream = await navigator.mediaDevices.getUserMedia(Object.assign({}, ...names.map(name => WANTED[name]())));
    for (const track of stream.getTracks()) keepTrack(track.kind === 'audio' ? 'microphone' : 'camera', track);
    return null;
  } catch (error) {
    if (!(error instanceof DOMException || error instanceof TypeError)) throw error;
    return error;
  }
}

function explain(name, error) {
  const reasons = words.trouble[name];
  return reasons[error.name] || reasons.other;
}

function keepTrack(name, track) {
  /* Closed meanwhile, or opened by another wish for it that came first. */
  if (!wanted.has(name) || own[name]) return track.stop();
  own[name] = track;
  /* Said only when a device was pulled out, or stopped in the browser's own bar. */
  track.addEventListener('ended', () => own[name] === track && onEnded(name));
  tell('own-media', name);
}

function onEnded(name) {
  own[name] = null;
  tell('own-media', name);
  tell('own-media-ended', name);
}

/** Closes one, so that its light goes out, or does not come on if it is being opened. */
export function closeDevice(name) {
  const track = own[name];
  wanted.delete(name);
  if (!track) return;
  own[name] = null;
  track.stop();
  tell('own-media', name);
}

export function closeAll() {
  for (const name of Object.keys(own)) closeDevice(name);
}

/* Another device takes the place of one that runs. */
listen('call-device', async name => {
  if (!own[name]) return;
  closeDevice(name);
  await openDevices([name]);
});

const SCREEN = ['screen', 'sound'];

/** Lets the person choose what of the screen is shown, with its sound where the browser gives it; a sentence when that fails, '' otherwise. */
export async function openScreen() {
  if (obstacle()) return obstacle();
  if (!navigator.mediaDevices.getDisplayMedia) return words.trouble.noScreen;
  for (const name of SCREEN) wanted.add(name);
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({video: {frameRate: {max: 15}}, audio: true});
    for (const track of stream.getTracks()) keepTrack(track.kind === 'audio' ? 'sound' : 'screen', track);
    if (own.screen) own.screen.contentHint = 'detail';
    return '';
  } catch (error) {
    if (!(error instanceof DOMException || error instanceof TypeError)) throw error;
    /* Whoever closes the question has changed their mind. */
    return error.name === 'NotAllowedError' ? '' : words.trouble.screen;
  }
}

export function closeScreen() {
  for (const name of SCREEN) closeDevice(name);
}

const DEVICE_KINDS = {microphone: 'audioinput', camera: 'videoinput', speaker: 'audiooutput'};

/** The devices there are: [{id, label}]; without permission browsers tell no names, and nothing is listed. */
export async function devicesOf(kind) {
  if (obstacle()) return [];
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(one => one.kind === DEVICE_KINDS[kind] && one.label && one.deviceId)
    .map(one => ({id: one.deviceId, label: one.label}));
}
