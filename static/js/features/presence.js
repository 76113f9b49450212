/** Tells the server whether the person is at the page: active while it is used, idle after five minutes without. */
import {ApiError, put} from '../core/api.js';
import {listen, state} from '../core/state.js';
import {broadcast, hear} from '../core/store.js';

const PAUSE = 5 * 60 * 1000;
const SHARE_EVERY = 10000;
const SIGNS_OF_LIFE = ['pointermove', 'pointerdown', 'keydown', 'wheel', 'touchstart', 'focus'];

/* The server takes a page that begins to listen for an active one. */
const seen = {state: 'active', toldAt: performance.now(), sharedAt: 0, timer: setTimeout(becomeIdle, PAUSE)};

for (const kind of SIGNS_OF_LIFE) addEventListener(kind, onActivity, {capture: true, passive: true});

/* Whoever uses one tab is not idle in the others. */
hear('activity', waitForIdle);
hear('presence-told', told => Object.assign(seen, {state: told, toldAt: performance.now()}));

/* Nor on one device, while another one lies idle. */
listen('presence', ({user_id: id, state: told}) => {
  if (id === state.me.id && told === 'idle' && seen.state === 'active') tellServer('active');
});

function onActivity() {
  const now = performance.now();
  if (seen.state === 'idle' || now - seen.toldAt >= PAUSE) tellServer('active');
  if (now - seen.sharedAt < SHARE_EVERY) return;
  seen.sharedAt = now;
  waitForIdle();
  broadcast('activity');
}

function waitForIdle() {
  clearTimeout(seen.timer);
  seen.timer = setTimeout(becomeIdle, PAUSE);
}

function becomeIdle() {
  if (seen.state !== 'idle') tellServer('idle');
}

/* Do not disturb is a choice; neither coming nor going undoes it. */
async function tellServer(presence) {
  Object.assign(seen, {state: presence, toldAt: performance.now()});
  broadcast('presence-told', presence);
  const own = state.users.get(state.me.id);
  if (own && own.presence === 'dnd') return;
  try {
    await put('/me/presence', {state: presence});
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}
