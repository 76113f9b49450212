/** Messages on their way: sent in order, exactly once, and kept across reloads until the server has them. */
import {ApiError, backOff, post} from './api.js';
import {newId} from './dom.js';
import {listen, state, tell} from './state.js';
import {broadcast, dropFromOutbox, hear, readOutbox, writeOutbox} from './store.js';

const box = {entries: [], durable: true, running: false, again: false, timer: 0, attempt: 0, ending: new AbortController(), changing: []};

/** What waits or failed in one channel, oldest first. */
export function outboxOf(channelId) {
  return box.entries.filter(entry => entry.channel_id === channelId);
}

export const outboxSize = () => box.entries.length;

/** Takes a message in; it is on screen before anything is stored or sent. */
export async function send({channel_id, text, reply_to, files}) {
  const entry = {
    order: nextOrder(), client_id: newId(), user_id: state.me.id, channel_id, text,
    reply_to: reply_to || null, files: files || [], at: Date.now(), status: 'waiting', error: '',
  };
  box.entries.push(entry);
  tell('outbox', channel_id);
  await store(entry);
  flush();
}

/* The wall clock may jump back; the order must not. */
function nextOrder() {
  const last = box.entries.length ? box.entries[box.entries.length - 1].order : 0;
  return Math.max(Date.now() * 1000, last + 1);
}

/** Sends a refused message again, as it is or with another text. */
export async function retry(entry, text = entry.text) {
  await replace(entry, {...entry, text, client_id: text === entry.text ? entry.client_id : newId(), status: 'waiting', error: ''});
  flush();
}

export async function discard(entry) {
  await drop(entry);
}

/** Reads what an earlier page left, and sends it. */
export async function startOutbox() {
  hear('outbox', reload);
  listen('link', onLink);
  await reload();
  flush();
}

/* What is under way when the link is lost might hang for minutes; the client_id makes asking again harmless. */
function onLink({status}) {
  if (status === 'off') box.ending.abort();
  if (hasLink()) flush();
}

async function reload() {
  if (!state.me || !box.durable) return;
  try {
    const stored = await readOutbox();
    box.entries = [...stored.filter(entry => !isChanging(entry)), ...box.entries.filter(isChanging)]
      .sort((one, other) => one.order - other.order);
  } catch (error) {
    box.durable = false;
  }
  tell('outbox', null);
}

/* Until the database has a change, what was read from it meanwhile is older than what is known here. */
const isChanging = ({order}) => box.changing.includes(order);

async function store(entry, write = writeOutbox) {
  if (!box.durable) return;
  box.changing.push(entry.order);
  try {
    await write(entry);
    broadcast('outbox');
  } catch (error) {
    box.durable = false;
  } finally {
    box.changing.splice(box.changing.indexOf(entry.order), 1);
  }
}

async function replace(entry, changed) {
  box.entries = box.entries.map(other => other.order === entry.order ? changed : other);
  tell('outbox', entry.channel_id);
  await store(changed);
}

async function drop(entry) {
  box.entries = box.entries.filter(other => other.order !== entry.order);
  tell('outbox', entry.channel_id);
  await store(entry, dropFromOutbox);
}

/** Sends what waits. One tab at a time where locks exist; elsewhere the client_id makes a double send harmless. */
export async function flush() {
  if (!hasLink()) return;
  if (box.running) return void (box.again = true);
  Object.assign(box, {running: true, again: false});
  clearTimeout(box.timer);
  try {
    if (navigator.locks) await navigator.locks.request('minimost-outbox', () => sendAll(true));
    else await sendAll(false);
  } finally {
    box.running = false;
  }
  if (box.again) flush();
}

async function sendAll(shared) {
  if (shared) await reload();
  for (let entry = nextWaiting(); entry && state.me; entry = nextWaiting()) {
    if (!await sendOne(entry)) return;
  }
}

const hasLink = () => ['on', 'slow'].includes(state.link.status);
const nextWaiting = () => box.entries.find(entry => entry.status === 'waiting');

async function sendOne(entry) {
  box.ending = new AbortController();
  try {
    const {message} = await post(`/channels/${entry.channel_id}/messages`, bodyOf(entry), {ending: box.ending});
    box.attempt = 0;
    tell('message', message);
    tell('delivered', message);
    await drop(entry);
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return afterFailure(entry, error);
  }
}

function bodyOf({text, client_id, reply_to, files}) {
  const body = {text, client_id, files: files.map(file => file.id)};
  return reply_to ? {...body, reply_to} : body;
}

/* A refusal is final and lets the next message pass; anything else stops the line so that the order holds. */
async function afterFailure(entry, error) {
  if (error.refused) {
    await replace(entry, {...entry, status: 'failed', error: error.message});
    return true;
  }
  if (error.status === 0) tell('link-doubt');
  if (error.status === 401) return false;
  box.attempt += 1;
  box.timer = setTimeout(flush, error.retryAfter ? error.retryAfter * 1000 : backOff(box.attempt));
  return false;
}
