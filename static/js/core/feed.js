/** One poll per browser: a lock, or else turns, elect the tab that asks; the others hear it from that tab. */
import {ApiError, backOff, get, ignoreLink} from './api.js';
import {apply, listen, noteServer, state, takeSnapshot, tell} from './state.js';
import {broadcast, hear, noteSignedIn} from './store.js';

const WAIT_SECONDS = 25;
/* A link that died silently gives no error: an answer this late (ms) is none. */
const PATIENCE = (WAIT_SECONDS + 5) * 1000;
/* So many events are in one answer at most. */
const MOST_EVENTS = 500;

const feed = {
  attempt: 0, polling: null, wake: null, resume: null, early: null, leading: false, lost: false, stale: false, held: false,
  release: null, turn: null, heard: () => {},
};

/** Takes the snapshot; raises ApiError (401: nobody is signed in), and then only another try helps. */
export async function loadSnapshot() {
  const early = feed.early = feed.early || [];
  feed.stale = true;
  try {
    takeSnapshot(await get('/snapshot'));
  } finally {
    feed.early = null;
  }
  noteSignedIn(true);
  feed.stale = false;
  /* What another tab told while the snapshot was under way may be newer than it. */
  early.forEach(deliver);
}

/** Starts listening; call once, after the first snapshot. */
export function startFeed() {
  hear('link', setLink);
  /* A tab that does not poll must not pass it on: the others would shout it to one another without end. */
  hear('try-now', () => feed.leading && tryNow());
  hear('hold', setHeld);
  hear('signed-out', () => tell('signed-out'));
  hear('signed-in', () => tell('signed-in'));
  listen('link-doubt', doubt);
  addEventListener('online', tryNow);
  addEventListener('offline', doubt);
  document.addEventListener('visibilitychange', () => document.hidden || tryNow());
  setLink({status: 'on', retryAt: 0});
  if (navigator.locks) navigator.locks.request('minimost-poll', lead);
  else leadByTurns();
}

/* Must be set before the first snapshot is asked for, or news of other tabs falls between. */
hear('news', answer => {
  feed.heard();
  if (feed.early) feed.early.push(answer);
  else if (state.me) deliver(answer);
});

/** Whether this is the tab that asks for news, of those of this browser. */
export const isLeading = () => feed.leading;

/** Ends a wait between two tries, here and in the tab that polls. */
export function tryNow() {
  if (!feed.leading) return broadcast('try-now');
  if (feed.wake) feed.wake();
}

/** Stops asking, in every tab, so that a session that ends on purpose meets no refusal; `false` goes on. */
export function holdFeed(held) {
  setHeld(held);
  broadcast('hold', held);
}

function setHeld(held) {
  feed.held = held;
  if (held && feed.polling) feed.polling.abort();
  if (!held && feed.release) feed.release();
}

/* Something failed elsewhere: ask at once instead of trusting a poll that may hang. */
function doubt() {
  if (!feed.lost && feed.polling) feed.polling.abort();
}

/* Only plain HTTP needs it, so it is no part of the first load; if it cannot be had, each tab asks for itself. */
async function leadByTurns() {
  const turns = await import('./turns.js').catch(() => null);
  if (!turns) return lead();
  const end = () => {
    feed.leading = false;
    if (feed.polling) feed.polling.abort();
  };
  const begin = () => {
    feed.leading = true;
    if (feed.turn) feed.turn();
  };
  feed.heard = turns.takeTurns(begin, end);
  return ask();
}

function lead() {
  feed.leading = true;
  return ask();
}

async function ask() {
  for (;;) {
    if (!feed.leading) await new Promise(resolve => { feed.turn = resolve; });
    if (feed.held) await new Promise(resolve => { feed.release = resolve; });
    try {
      await askOnce();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      await afterFailure(error);
    }
  }
}

async function askOnce() {
  if (feed.stale) await loadSnapshot();
  const answer = await poll(state.link.status === 'on' ? WAIT_SECONDS : 0);
  await linkIsBack();
  broadcast('news', answer);
  await deliver(answer);
}

async function poll(wait) {
  feed.polling = new AbortController();
  const timer = setTimeout(() => feed.polling.abort(), feed.lost ? 5000 : PATIENCE);
  try {
    return await get(`/poll?after=${encodeURIComponent(state.cursor)}&wait=${wait}`, {signal: feed.polling.signal});
  } finally {
    clearTimeout(timer);
    feed.polling = null;
  }
}

async function deliver(answer) {
  if (answer.reset) feed.stale = true;
  /* A tab that cannot take the snapshot now stays stale and tries again with the next news. */
  if (feed.stale) return feed.leading ? null : loadSnapshot().catch(ignoreLink);
  state.cursor = answer.cursor;
  for (const event of inOrder(answer.events)) apply(event);
  if (answer.events.length >= MOST_EVENTS) recount(answer.events);
}

/* A full answer is a part of more: messages left out here come in a later one, behind newer ones of their channels. */
function recount(events) {
  const channelIds = events.filter(({kind}) => kind === 'message').map(({value}) => value.channel_id);
  for (const channelId of new Set(channelIds)) tell('recount', channelId);
}

/* A message is told as it last changed, maybe behind newer ones: put where it was written, or it would pass for known. */
function inOrder(events) {
  const ordered = [];
  for (const event of events) {
    const at = event.kind === 'message' ? ordered.findIndex(({kind, value}) => kind === 'message' && value.id > event.value.id) : -1;
    ordered.splice(at < 0 ? ordered.length : at, 0, event);
  }
  return ordered;
}

async function linkIsBack() {
  feed.attempt = 0;
  const {lost} = feed;
  feed.lost = false;
  if (state.link.status !== 'on') share({status: 'on', retryAt: 0});
  if (lost) noteServer((await get('/welcome')).server);
}

async function afterFailure(error) {
  if (feed.held || !feed.leading) return;
  if (error.status === 401) return waitForSignIn();
  if (error.status === 429) return slowDown(error);
  if (error.refused) feed.stale = true;
  else feed.lost = true;
  feed.attempt += 1;
  const pause = error.retryAfter ? error.retryAfter * 1000 : backOff(feed.attempt - 1, 15000);
  if (feed.lost) share({status: 'off', retryAt: Date.now() + pause});
  await rest(pause);
  if (feed.lost) share({status: 'connecting', retryAt: 0});
}

/* The server answers and asks for patience: that is no lost link. */
function slowDown({retryAfter}) {
  const pause = (retryAfter || 5) * 1000;
  share({status: 'slow', retryAt: Date.now() + pause});
  return rest(pause);
}

async function waitForSignIn() {
  noteSignedIn(false);
  tell('signed-out');
  broadcast('signed-out');
  await new Promise(resolve => { feed.resume = resolve; });
}

/** Goes on after somebody signed in again, also where the snapshot failed: then it is asked for as a lost link is. */
export async function resumeFeed() {
  try {
    await loadSnapshot();
  } finally {
    if (feed.resume) feed.resume();
    feed.resume = null;
  }
}

function rest(pause) {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, pause);
    feed.wake = () => { clearTimeout(timer); resolve(); };
  }).then(() => { feed.wake = null; });
}

function share(link) {
  setLink(link);
  broadcast('link', link);
}

function setLink(link) {
  state.link = link;
  tell('link', link);
}
