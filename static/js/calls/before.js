/** What one sees before a call: oneself, the level, the devices; and what of it the others are to get. */
import {make} from '../core/dom.js';
import {preference} from '../core/preferences.js';
import {keepForDevice, keptForDevice} from '../core/store.js';
import {callWords as words} from '../text/call-words.js';
import {openDialog} from '../views/dialog.js';
import {isInCall, placeOf} from './active.js';
import {drawDevices, drawPreview} from './choosing.js';
import {closeAll, closeDevice, obstacle, openDevices, openScreen, own} from './media.js';

const SWITCHES = ['microphone', 'camera'];
const SAY = {microphone: words.microphoneOn, camera: words.cameraIsOn};

/* Last time's choice; heard, not seen, at first. */
const isWanted = name => keptForDevice(`call-${name}-on`) ?? name === 'microphone';
const wanted = () => SWITCHES.filter(isWanted);

/** Asks what is to be shown in a call of a channel, where the person likes that. Gives what to open; null is to stay away. */
export function lookBefore(call, isGoing) {
  return !obstacle() && preference('call_ask', true) ? askBefore(call, isGoing) : wanted();
}

/* What the dialog can end with. */
const OUTCOMES = {go: wanted, screen: () => []};

function askBefore(call, isGoing) {
  return new Promise(resolve => {
    const preview = drawPreview();
    const troubles = make('div', {className: 'before-troubles', role: 'status'});
    const go = make('button', {type: 'button', className: 'button primary'}, isGoing ? words.before.join : words.before.start);
    const screen = make('button', {type: 'button', className: 'button secondary'}, words.before.screenOnly);
    const body = make('div', {className: 'call-before stack'}, preview.element, switches(troubles), troubles, drawDevices(), make('div', {className: 'form-buttons'}, screen, go));
    const dialog = openDialog(words.before.title(placeOf(call)), body, {className: 'wide'});
    dialog.addEventListener('close', () => { preview.end(); resolve(OUTCOMES[dialog.returnValue] ? OUTCOMES[dialog.returnValue]() : null); });
    go.addEventListener('click', () => dialog.close('go'));
    screen.addEventListener('click', () => shareOnly(dialog, troubles));
    go.focus();
    openWanted(troubles);
  });
}

function switches(troubles) {
  return make('div', {className: 'before-switches'}, ...SWITCHES.map(name => {
    const input = make('input', {type: 'checkbox', role: 'switch', className: 'switch', name, checked: isWanted(name)});
    input.addEventListener('change', () => choose(name, input.checked, troubles));
    return make('label', {}, input, SAY[name]);
  }));
}

async function choose(name, on, troubles) {
  keepForDevice(`call-${name}-on`, on);
  if (on) return openWanted(troubles);
  closeDevice(name);
  return say(troubles, {});
}

async function openWanted(troubles) {
  const failed = await openDevices(wanted());
  /* The person may have gone on, or away, while the browser asked. */
  if (!troubles.isConnected) return isInCall() || closeAll();
  for (const name of SWITCHES) if (own[name] && !isWanted(name)) closeDevice(name);
  say(troubles, failed);
}

function say(troubles, failed) {
  troubles.replaceChildren(...Object.values(failed).map(text => make('p', {}, text)));
}

async function shareOnly(dialog, troubles) {
  for (const name of SWITCHES) closeDevice(name);
  const trouble = await openScreen();
  if (own.screen) dialog.close('screen');
  else say(troubles, trouble ? {screen: trouble} : {});
}
