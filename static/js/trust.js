/** The page on trust: unfolds what concerns this device, and finds out whether the browser trusts the server already. */
import {find} from './core/dom.js';
import {trustWords as words} from './text/trust-words.js';

/* The first that fits; an iPad calls itself a Mac, but has fingers. */
const DEVICES = [
  ['ios', agent => /iPhone|iPad/.test(agent) || (/Macintosh/.test(agent) && navigator.maxTouchPoints > 1)],
  ['android', agent => /Android/.test(agent)],
  ['firefox', agent => /Firefox\//.test(agent)],
  ['windows', agent => /Windows/.test(agent)],
  ['mac', agent => /Macintosh/.test(agent)],
  ['linux', agent => /Linux|CrOS/.test(agent)],
];
const DOWNLOADS = {ios: '/ca.mobileconfig', linux: '/ca.pem', firefox: '/ca.pem'};
const WORKER = '/static/js/features/notify-worker.js';
const PROBE_SCOPE = '/static/js/features/probe/';

function showDevice() {
  const [name] = DEVICES.find(([, fits]) => fits(navigator.userAgent)) || [];
  if (!name) return;
  const steps = find(`#on-${name}`);
  steps.open = true;
  find('#device').textContent = words.device(words.devices[name]);
  find('#device').hidden = false;
  find('#device').after(steps);
  if (DOWNLOADS[name]) find('#download').href = DOWNLOADS[name];
}

/*
 * Chromium refuses to install a worker over a connection whose certificate was merely waved through, and says so by a
 * SecurityError. Other browsers give no such sign; `userAgentData` tells Chromium apart.
 */
async function probe() {
  if (!navigator.serviceWorker || !navigator.userAgentData) return 'unknown';
  try {
    const registration = await navigator.serviceWorker.register(trustedAddress(), {scope: PROBE_SCOPE});
    await registration.unregister();
    return 'trusted';
  } catch (error) {
    return error.name === 'SecurityError' ? 'untrusted' : 'unknown';
  }
}

function trustedAddress() {
  if (!window.trustedTypes) return WORKER;
  return window.trustedTypes.createPolicy('minimost', {createScriptURL: () => WORKER}).createScriptURL('');
}

async function start() {
  if (document.body.dataset.certificate !== 'own') return;
  showDevice();
  find(`#probe-${await probe()}`).hidden = false;
}

start();
