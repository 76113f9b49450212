/** How good each connection is, in words; and what keeps two pages apart. */
import {findAll, icon, make} from '../core/dom.js';
import {state, userName} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {avatar} from '../views/avatar.js';
import {active, changed, setTrouble} from './active.js';

const LOOK_EVERY = 2000;
/* Without a connection after so long (ms) the person is told why. */
const PATIENCE = 15000;
/* Each: the most of lost packets, and of the way there and back (s), at which a connection is that good. */
const GRADES = [['good', .03, .2], ['fair', .1, .5]];

/** Looks at the connections until what it gives is called. */
export function startQuality(stage) {
  const timer = setInterval(look, LOOK_EVERY, stage);
  return () => clearInterval(timer);
}

async function look(stage) {
  if (!active.call) return;
  const {mesh} = active;
  await Promise.all([...mesh.peers.values()].map(grade));
  if (mesh !== active.mesh) return;
  for (const tile of findAll('.call-tile.camera', stage)) show(tile, mesh.peers.get(Number(tile.dataset.user)));
  changed();
  explain(mesh);
}

async function grade(peer) {
  if (!peer.isConnected) return void (peer.quality = peer.wasConnected ? 'mending' : 'connecting');
  const sum = {lost: 0, received: 0, way: 0};
  for (const one of (await peer.connection.getStats()).values()) count(sum, one);
  const before = peer.counted || {lost: 0, received: 0};
  const lost = sum.lost - before.lost;
  const share = lost / Math.max(1, lost + sum.received - before.received);
  peer.counted = sum;
  peer.quality = (GRADES.find(([, most, way]) => share <= most && sum.way <= way) || ['poor'])[0];
}

function count(sum, one) {
  if (one.type === 'inbound-rtp') {
    sum.lost += one.packetsLost || 0;
    sum.received += one.packetsReceived || 0;
  }
  if (one.type === 'candidate-pair' && one.nominated && one.state === 'succeeded') sum.way = one.currentRoundTripTime || 0;
}

function show(tile, peer) {
  if (!peer) return;
  tile.dataset.quality = peer.quality;
  tile.title = words.quality[peer.quality];
}

/* -- why two pages do not find each other */

function explain(mesh) {
  const apart = [...mesh.peers.values()].filter(peer => !peer.isConnected && performance.now() - (peer.lostAt || peer.since) > PATIENCE);
  setTrouble('apart', apart.length ? reasonFor(apart) : '');
}

function reasonFor(apart) {
  const names = apart.map(peer => userName(peer.userId)).join(', ');
  if (apart.every(offersAddress)) return words.trouble.blocked(names);
  return state.server.stun ? words.trouble.stun(names) : words.trouble.noStun;
}

/* Whether this end named any address that another machine can reach; a name that ends in .local is known nearby alone. */
function offersAddress({connection}) {
  const {sdp = ''} = (connection && connection.localDescription) || {};
  return sdp.split('\n').some(line => line.startsWith('a=candidate') && !line.includes('.local '));
}

/* -- who is there */

/** Draws the list of those in the call, where it is shown. */
export function drawPeople(list) {
  if (!list.hidden) list.replaceChildren(make('h3', {}, words.peopleInCall), ...active.call.participants.filter(one => ['joined', 'ringing'].includes(one.state)).map(personIn));
}

function personIn(part) {
  const user = state.users.get(part.user_id) || {id: part.user_id};
  const peer = active.mesh.peers.get(part.user_id);
  const names = make('span', {className: 'grow'}, make('b', {className: 'ellipsis', dir: 'auto'}, userName(part.user_id)), make('small', {}, sayState(part, peer)));
  return make('div', {className: 'call-person'}, avatar(user, 28), names, part.hand ? icon('hand', 16) : null, part.muted ? icon('micoff', 16) : null);
}

function sayState(part, peer) {
  if (part.state === 'ringing') return words.ringing;
  return peer ? words.quality[peer.quality || 'connecting'] : words.you;
}
