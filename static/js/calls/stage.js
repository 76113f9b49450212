/** The stage of a call: its head, the tiles, the controls; beside the chat, over it, or small in a corner. */
import {find, icon, label, make, refill} from '../core/dom.js';
import {listen, state} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {active, placeOf} from './active.js';
import {drawControls} from './controls.js';
import {startKeys} from './keys.js';
import {startLevels} from './levels.js';
import {drawPeople, startQuality} from './quality.js';
import {drawTiles} from './tiles.js';
import {drawTroubles} from './troubles.js';
import {playVoices} from './voices.js';

const NARROW = matchMedia('(max-width: 1099px)');

const stage = {element: null, small: false, timer: 0, wake: null};

/** Has the stage follow the call; call once. */
export function startStage() {
  listen('own-call', draw);
  listen('route', () => stage.element && NARROW.matches && makeSmall());
  document.addEventListener('fullscreenchange', () => stage.element && drawHead());
  document.addEventListener('visibilitychange', keepAwake);
  startKeys({toggleSize: () => (stage.small ? enlarge() : makeSmall())});
}

/** Shows the stage large. */
export function enlarge() {
  setSmall(false);
}

function makeSmall() {
  if (document.fullscreenElement) document.exitFullscreen();
  setSmall(true);
}

function setSmall(small) {
  stage.small = small;
  if (stage.element) drawPlace();
}

function draw() {
  if (!active.call) return close();
  if (!stage.element) open();
  drawHead();
  drawTiles(find('.call-tiles', stage.element), stage.view);
  drawControls(find('.call-controls', stage.element));
  drawPeople(find('.call-people', stage.element));
  drawTroubles(find('.call-troubles', stage.element));
  playVoices(active.mesh.peers);
}

function open() {
  stage.element = make('section', {id: 'call-stage', 'aria-label': words.callIn(placeOf(active.call)), tabIndex: -1},
    make('header', {className: 'call-head'}), make('div', {className: 'call-troubles'}),
    make('div', {className: 'call-tiles'}), make('div', {className: 'call-controls', role: 'toolbar', 'aria-label': words.callIn(placeOf(active.call))}));
  stage.view = {mode: '', pinned: ''};
  stage.element.addEventListener('call-pin', ({detail}) => pin(detail));
  buildHead();
  find('#sheet').before(stage.element);
  stage.small = false;
  stage.timer = setInterval(drawTime, 1000);
  stage.ends = [startLevels(stage.element), startQuality(stage.element)];
  drawPlace();
  keepAwake();
  stage.element.focus({preventScroll: true});
}

function close() {
  if (!stage.element) return;
  clearInterval(stage.timer);
  for (const end of stage.ends) end();
  if (document.fullscreenElement) document.exitFullscreen();
  stage.element.remove();
  stage.element = null;
  playVoices(new Map());
  find('.frame').classList.remove('in-call', 'call-alone');
  if (stage.wake) stage.wake.release();
  stage.wake = null;
}

/* A phone or a laptop must not fall asleep in a talk; the browser lets go of it whenever the page is hidden. */
async function keepAwake() {
  if (!stage.element || document.hidden || !navigator.wakeLock) return;
  stage.wake = await navigator.wakeLock.request('screen').catch(() => null);
  if (!stage.element && stage.wake) stage.wake.release();
}

/* -- head */

const HEAD = [
  {name: 'people', icon: 'users', run: togglePeople},
  {name: 'view', icon: 'grid', run: toggleView},
  {name: 'chat', icon: 'panel', run: () => toggleChat()},
  {name: 'full', icon: 'expand', run: toggleFullScreen},
  {name: 'size', icon: 'down', run: () => setSmall(!stage.small)},
];

function buildHead() {
  const buttons = HEAD.map(({name, run}) => {
    const button = make('button', {type: 'button', className: `call-head-button ${name}`});
    button.addEventListener('click', run);
    return button;
  });
  find('.call-head', stage.element).append(
    make('h2', {className: 'ellipsis', dir: 'auto'}), make('span', {className: 'call-time'}, make('i'), make('time')), make('span', {className: 'grow'}),
    ...buttons, make('div', {className: 'call-people', hidden: true}));
}

function drawHead() {
  find('h2', stage.element).textContent = placeOf(active.call);
  const count = active.call.participants.filter(one => one.state === 'joined').length;
  const isFull = Boolean(document.fullscreenElement);
  const isGrid = stage.view.mode !== 'spotlight';
  const SAY = {
    people: [words.inCall(count), String(count)], view: [isGrid ? words.toSpotlight : words.toGrid, isGrid ? words.spotlight : words.grid],
    chat: [isAlone() ? words.showChat : words.hideChat, ''], full: [isFull ? words.endFullScreen : words.fullScreen, ''],
    size: [stage.small ? words.enlarge : words.minimise, ''],
  };
  for (const {name, icon: drawing} of HEAD) drawButton(name, drawing, ...SAY[name]);
  find('.view', stage.element).setAttribute('aria-pressed', String(!isGrid));
  find('.full', stage.element).hidden = !document.fullscreenEnabled;
  drawTime();
}

function drawButton(name, drawing, text, caption) {
  const button = find(`.call-head-button.${name}`, stage.element);
  const shape = name === 'size' && stage.small ? 'expand' : drawing;
  refill(button, icon(shape, 18), ...(caption ? [make('span', {}, caption)] : []));
  label(button, text);
}

function drawTime() {
  const seconds = Math.max(0, Math.floor((Date.now() + state.clockAhead - active.call.started_at) / 1000));
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = String(seconds % 60).padStart(2, '0');
  find('.call-time time', stage.element).textContent = hours ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

/* -- what is shown, and where */

function toggleView() {
  stage.view.mode = stage.view.mode === 'spotlight' ? 'grid' : 'spotlight';
  stage.view.chosen = true;
  stage.view.pinned = '';
  draw();
}

function pin(key) {
  stage.view.pinned = stage.view.pinned === key ? '' : key;
  stage.view.mode = stage.view.pinned ? 'spotlight' : 'grid';
  draw();
}

function togglePeople() {
  const list = find('.call-people', stage.element);
  list.hidden = !list.hidden;
  find('.people', stage.element).setAttribute('aria-expanded', String(!list.hidden));
  drawPeople(list);
}

const isAlone = () => find('.frame').classList.contains('call-alone');

function toggleChat() {
  if (NARROW.matches) return makeSmall();
  find('.frame').classList.toggle('call-alone');
  drawHead();
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else stage.element.requestFullscreen().catch(() => {});
}

function drawPlace() {
  stage.element.classList.toggle('small', stage.small);
  find('.frame').classList.toggle('in-call', !stage.small);
  if (stage.small) find('.frame').classList.remove('call-alone');
  drawHead();
}
