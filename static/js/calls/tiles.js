/** The tiles of a call: a face for each participant, and a screen for each that is shared. */
import {find, icon, label, make} from '../core/dom.js';
import {state, userName} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {avatar} from '../views/avatar.js';
import {active} from './active.js';
import {own} from './media.js';

/* What is drawn, by key; a film that moves to another place must not be made anew. */
const tiles = new Map();

/** Draws the tiles of the call into `root`; `view` is {mode, pinned}. */
export function drawTiles(root, view) {
  const wanted = wantedTiles();
  for (const [key, tile] of tiles) if (!wanted.some(one => one.key === key) || !root.contains(tile)) drop(key);
  for (const one of wanted) drawTile(root, one);
  arrange(root, wanted, view);
}

function drop(key) {
  tiles.get(key).remove();
  tiles.delete(key);
}

/* Screens first, then the others, then oneself. */
function wantedTiles() {
  const people = active.call.participants.filter(one => one.state === 'joined' || one.state === 'ringing');
  const mine = people.filter(one => one.user_id === state.me.id).map(one => ({...one, ...active.marks}));
  const all = [...people.filter(one => one.user_id !== state.me.id), ...mine];
  const screens = all.filter(one => one.sharing && one.state === 'joined').map(part => ({key: `screen-${part.user_id}`, kind: 'screen', part}));
  return [...screens, ...all.map(part => ({key: `face-${part.user_id}`, kind: 'camera', part}))];
}

function drawTile(root, {key, kind, part}) {
  if (!tiles.has(key)) tiles.set(key, makeTile(key, kind, part));
  const tile = tiles.get(key);
  if (!tile.isConnected) root.append(tile);
  const peer = active.mesh.peers.get(part.user_id);
  const isOwn = part.user_id === state.me.id;
  show(find('video', tile), isOwn ? own[kind] : peer && peer.remote[kind]);
  tile.classList.toggle('has-picture', part.state === 'joined' && (kind === 'screen' || part.camera));
  tile.classList.toggle('own', isOwn);
  tile.dataset.user = part.user_id;
  drawName(tile, kind, part, isOwn);
  drawState(tile, part, peer, isOwn);
}

function makeTile(key, kind, part) {
  const pin = make('button', {type: 'button', className: 'tile-pin'}, icon('pin', 16));
  const video = make('video', {autoplay: true, muted: true, playsInline: true, tabIndex: -1});
  const tile = make('article', {className: `call-tile ${kind}`, 'data-tile': key}, video,
    make('span', {className: 'tile-face'}, avatar(state.users.get(part.user_id) || {id: part.user_id}, 84)),
    make('span', {className: 'tile-state', role: 'status'}), make('span', {className: 'tile-name'}), pin);
  pin.addEventListener('click', () => tile.dispatchEvent(new CustomEvent('call-pin', {bubbles: true, detail: key})));
  tile.addEventListener('dblclick', () => pin.click());
  return tile;
}

/* The stream of a tile is set once for each track: setting it again would make the picture blink. */
function show(video, track) {
  const [shown] = video.srcObject ? video.srcObject.getTracks() : [];
  if (shown === (track || undefined)) return;
  video.srcObject = track ? new MediaStream([track]) : null;
  if (track) video.play().catch(() => {});
}

function nameOf(kind, part, isOwn) {
  const name = userName(part.user_id);
  if (kind === 'screen') return isOwn ? words.yourScreen : words.screenOf(name);
  return isOwn ? words.you : name;
}

function drawName(tile, kind, part, isOwn) {
  const name = nameOf(kind, part, isOwn);
  const marks = kind === 'screen' ? [sign('screen', '')] : [
    part.muted && part.state === 'joined' && sign('micoff', words.mutedMark), part.hand && sign('hand', words.handMark)];
  const speaking = make('span', {className: 'tile-speaking', hidden: true}, icon('mic', 15), make('span', {className: 'visually-hidden'}, words.speaking));
  find('.tile-name', tile).replaceChildren(...marks.filter(Boolean), ...(kind === 'camera' ? [speaking] : []), make('span', {className: 'ellipsis', dir: 'auto'}, name));
  tile.classList.toggle('hand', kind === 'camera' && part.hand);
  label(find('.tile-pin', tile), tile.classList.contains('pinned') ? words.unpin(name) : words.pin(name));
  tile.setAttribute('aria-label', name);
}

function sign(name, text) {
  return make('span', text ? {className: `tile-mark ${name}`, role: 'img', 'aria-label': text, title: text} : {className: 'tile-mark'}, icon(name, 15));
}

function drawState(tile, part, peer, isOwn) {
  const text = isOwn ? '' : sayState(part, peer);
  const element = find('.tile-state', tile);
  if (element.textContent !== text) element.textContent = text;
}

function sayState(part, peer) {
  if (part.state === 'ringing') return words.ringing;
  if (peer && peer.isConnected) return ['fair', 'poor'].includes(peer.quality) ? words.quality[peer.quality] : '';
  return peer && peer.wasConnected ? words.quality.mending : words.connecting;
}

/* One large and the others small below it, or all alike. */
function arrange(root, wanted, view) {
  const keys = wanted.map(one => one.key);
  if (!keys.includes(view.pinned)) view.pinned = '';
  const hasScreen = wanted.some(one => one.kind === 'screen');
  if (!view.chosen && !view.pinned) view.mode = hasScreen ? 'spotlight' : 'grid';
  const large = view.pinned || keys.find(key => key.startsWith('screen-')) || keys[0];
  for (const [key, tile] of tiles) {
    tile.classList.toggle('pinned', key === view.pinned);
    tile.classList.toggle('large', key === large);
    tile.style.setProperty('--order', keys.indexOf(key));
  }
  root.classList.toggle('spotlight', view.mode === 'spotlight' && keys.length > 1);
  root.style.setProperty('--columns', Math.ceil(Math.sqrt(keys.length)));
  root.style.setProperty('--rows', Math.ceil(keys.length / Math.ceil(Math.sqrt(keys.length))));
  root.style.setProperty('--small', Math.max(1, keys.length - 1));
  root.dataset.count = keys.length;
}
