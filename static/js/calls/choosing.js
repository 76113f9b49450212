/** Choosing microphone, camera and speaker, with the level and the picture that they give. */
import {find, make} from '../core/dom.js';
import {listen} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {meterOf} from './levels.js';
import {chooseDevice, chosenDevice, devicesOf, own} from './media.js';

const LOOK_EVERY = 100;
const FULL = .2;
const KINDS = ['microphone', 'camera', 'speaker'];

const open = new Set();

/** A picture of one's own, and how loud one is; `end()` stops looking. */
export function drawPreview() {
  const video = make('video', {autoplay: true, muted: true, playsInline: true, 'aria-label': words.picture});
  const element = make('div', {className: 'call-preview'}, video, make('span', {className: 'preview-none'}, words.noPicture),
    make('meter', {className: 'own-level', min: 0, max: 1, value: 0, 'aria-label': words.level}));
  const preview = {element, meter: null};
  const timer = setInterval(look, LOOK_EVERY, preview);
  open.add(preview);
  look(preview);
  return {element, end: () => end(preview, timer)};
}

function end(preview, timer) {
  clearInterval(timer);
  open.delete(preview);
  if (preview.meter) preview.meter.close();
}

function look(preview) {
  const {element} = preview;
  const video = find('video', element);
  const [shown] = video.srcObject ? video.srcObject.getTracks() : [];
  if (shown !== (own.camera || undefined)) video.srcObject = own.camera ? new MediaStream([own.camera]) : null;
  element.classList.toggle('has-picture', Boolean(own.camera));
  find('.own-level', element).value = levelOf(preview);
}

function levelOf(preview) {
  if (preview.meter && preview.meter.track !== own.microphone) {
    preview.meter.close();
    preview.meter = null;
  }
  if (!preview.meter && own.microphone) preview.meter = meterOf(own.microphone);
  return preview.meter ? Math.min(1, preview.meter.level() / FULL) : 0;
}

/** Lists of the devices that there are, kept up to date; nothing where the browser names none. */
export function drawDevices() {
  const element = make('div', {className: 'call-devices stack'});
  fillDevices(element);
  return element;
}

async function fillDevices(element) {
  const lists = await Promise.all(KINDS.map(devicesOf));
  const fields = KINDS.map((kind, index) => lists[index].length && (kind !== 'speaker' || 'setSinkId' in HTMLMediaElement.prototype) && deviceField(kind, lists[index]));
  element.replaceChildren(...fields.filter(Boolean));
}

function deviceField(kind, devices) {
  const select = make('select', {name: kind}, make('option', {value: ''}, words.usual), ...devices.filter(({id}) => id !== 'default').map(({id, label}) => make('option', {value: id}, label)));
  select.value = devices.some(({id}) => id === chosenDevice(kind)) ? chosenDevice(kind) : '';
  select.addEventListener('change', () => chooseDevice(kind, select.value));
  return make('label', {className: 'field'}, make('span', {}, words.deviceKinds[kind]), make('span', {className: 'input select'}, select));
}

/* Names come with the permission, and devices come and go. */
const refill = () => document.querySelectorAll('.call-devices').forEach(fillDevices);
listen('own-media', name => {
  if (own[name]) refill();
  for (const preview of open) look(preview);
});
if (navigator.mediaDevices) navigator.mediaDevices.addEventListener('devicechange', refill);
