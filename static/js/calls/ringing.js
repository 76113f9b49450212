/** The card of a call that rings: who calls, where, and the answers. */
import {isQuiet} from '../core/attention.js';
import {post} from '../core/api.js';
import {find, icon, make, newId} from '../core/dom.js';
import {preference} from '../core/preferences.js';
import {addressOf, goTo, listen, mayWrite, state, userName} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {mayRing, ringNow, showCall} from '../views/alerts.js';
import {avatar} from '../views/avatar.js';
import {attempt, toast} from '../views/toast.js';
import {placeOf} from './active.js';

const RING_EVERY = 3200;

/* The cards on the page, by call. */
const cards = new Map();

/** Rings for a call as long as it rings for this person; `join({camera})` comes to it. */
export function showRinging(call, join) {
  const part = call.participants.find(one => one.user_id === state.me.id);
  const rings = state.calls.has(call.id) && part && part.state === 'ringing';
  if (rings && !cards.has(call.id)) begin(call, join);
  if (!rings) end(call.id, part);
}

/* Of a call that was over before the snapshot nothing more is told. */
listen('snapshot', () => {
  for (const id of cards.keys()) if (!state.calls.has(id)) end(id);
});

function begin(call, join) {
  const element = draw(call, join);
  document.body.append(element);
  const card = {element, callerId: callerOf(call), notification: showCall(words.incoming(userName(callerOf(call))), call.channel_id)};
  cards.set(call.id, card);
  card.timer = setInterval(ring, RING_EVERY);
  ring();
  if (!isWriting()) find('.primary', element).focus();
}

function end(id, part) {
  if (!cards.has(id)) return;
  const {element, timer, callerId, notification} = cards.get(id);
  cards.delete(id);
  clearInterval(timer);
  element.remove();
  if (notification) notification.close();
  if (part && part.state === 'missed') toast(words.missedFrom(userName(callerId)), {name: 'phone'});
}

/* Of several tabs one rings; browsers let only a page ring that was touched before. */
async function ring() {
  if (isQuiet() || !mayRing() || !preference('sound', true) && !preference('vibrate', true)) return;
  if (!navigator.locks) return ringNow('call');
  await navigator.locks.request('minimost-ring-call', {ifAvailable: true}, lock => lock && hold());
}

function hold() {
  ringNow('call');
  return new Promise(resolve => setTimeout(resolve, RING_EVERY - 200));
}

/* Who writes goes on writing. */
const isWriting = () => Boolean(document.activeElement && document.activeElement.closest('input, textarea, dialog'));

function callerOf(call) {
  const isIn = call.participants.some(one => one.user_id === call.started_by && one.state === 'joined');
  return isIn ? call.started_by : (call.participants.find(one => one.state === 'joined') || {user_id: call.started_by}).user_id;
}

function draw(call, join) {
  const callerId = callerOf(call);
  const caller = state.users.get(callerId) || {id: callerId};
  const channel = state.channels.get(call.channel_id);
  const isDirect = channel && channel.kind === 'direct';
  const others = call.participants.filter(one => one.state === 'joined' && one.user_id !== callerId).map(one => userName(one.user_id));
  const element = make('section', {className: 'call-card', role: 'alertdialog', 'aria-label': words.incoming(userName(callerId)), 'data-call': call.id},
    make('div', {className: 'call-card-head'}, make('span', {className: 'call-ring'}, avatar(caller, 64)),
      make('div', {className: 'grow'}, make('b', {dir: 'auto'}, userName(callerId)), make('p', {}, isDirect || !channel ? words.calling : words.callingIn(placeOf(call))),
        others.length ? make('small', {}, words.alreadyIn(others.join(', '))) : null)),
    make('div', {className: 'call-card-buttons'}, answer('x', words.decline, 'secondary decline', () => decline(call)),
      answer('phone', words.audio, 'secondary audio', () => join({camera: false})), answer('video', words.video, 'primary video', () => join({camera: true}))),
    channel && mayWrite(channel) ? replies(call) : null);
  element.addEventListener('keydown', event => event.key === 'Escape' && decline(call));
  return element;
}

function answer(drawing, text, look, run) {
  const button = make('button', {type: 'button', className: `button ${look}`}, icon(drawing, 18), text);
  button.addEventListener('click', run);
  return button;
}

async function decline(call) {
  await attempt(() => post(`/calls/${call.id}/decline`, {device: 'card'}));
  end(call.id);
}

function replies(call) {
  const chips = words.quickReplies.map(text => chip(text, () => reply(call, text)));
  return make('div', {className: 'call-card-replies'}, ...chips, chip(words.writeInstead, () => writeInstead(call)));
}

function chip(text, run) {
  const button = make('button', {type: 'button', className: 'chip'}, text);
  button.addEventListener('click', run);
  return button;
}

async function reply(call, text) {
  await decline(call);
  await attempt(() => post(`/channels/${call.channel_id}/messages`, {text, client_id: newId()}));
}

async function writeInstead(call) {
  await decline(call);
  goTo(addressOf(call.channel_id));
  requestAnimationFrame(() => find('#message-text') && find('#message-text').focus());
}
