/** What this browser keeps (keyed by user, wiped at sign-out) and what its tabs tell each other. */
import {state} from './state.js';

const DATABASE = 'minimost';
const tabs = typeof BroadcastChannel === 'function' ? new BroadcastChannel('minimost') : null;
const hearers = new Map();

if (tabs) tabs.onmessage = ({data}) => (hearers.get(data.kind) || (() => {}))(data.value);

/** Tells the other tabs of this browser. */
export function broadcast(kind, value) {
  if (tabs) tabs.postMessage({kind, value});
}

export function hear(kind, hearer) {
  hearers.set(kind, hearer);
}

/** Small things kept for the person signed in; storage may be full or forbidden, then they last as long as the page. */
export function keep(name, value) {
  write(`${state.me.id}:${name}`, value);
}

export function kept(name) {
  return read(`${state.me.id}:${name}`);
}

/** Choices of this device, whoever is signed in. */
export const keepForDevice = (name, value) => write(`device:${name}`, value);
export const keptForDevice = name => read(`device:${name}`);

/** Whether somebody signed in here and has not signed out since: a stranger's first visit then asks nothing that is refused. */
export const mayBeSignedIn = () => Boolean(keptForDevice('signed-in'));
export const noteSignedIn = signedIn => keepForDevice('signed-in', signedIn || null);

/** What this tab alone remembers, also when it is loaded anew. */
export const keepForTab = (name, value) => write(`tab:${name}`, value, sessionStorage);
export const keptForTab = name => read(`tab:${name}`, sessionStorage);

function write(key, value, storage = localStorage) {
  try {
    if (value === null || value === '') storage.removeItem(key);
    else storage.setItem(key, JSON.stringify(value));
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}

function read(key, storage = localStorage) {
  try {
    return JSON.parse(storage.getItem(key));
  } catch (error) {
    return null;
  }
}

let opening = null;

function open() {
  opening = opening || new Promise((resolve, reject) => {
    const asking = indexedDB.open(DATABASE, 1);
    asking.onupgradeneeded = () => asking.result.createObjectStore('outbox', {keyPath: 'order'});
    asking.onsuccess = () => resolve(asking.result);
    asking.onerror = () => reject(asking.error);
  });
  return opening;
}

async function transact(mode, act) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction('outbox', mode);
    const asking = act(transaction.objectStore('outbox'));
    transaction.oncomplete = () => resolve(asking.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** The waiting messages of the person signed in, in the order they were written. */
export async function readOutbox() {
  const entries = await transact('readonly', box => box.getAll());
  return entries.filter(entry => entry.user_id === state.me.id);
}

export const writeOutbox = entry => transact('readwrite', box => box.put(entry));
export const dropFromOutbox = entry => transact('readwrite', box => box.delete(entry.order));

/** Forgets all that this person left here. */
export async function wipe() {
  const prefix = `${state.me.id}:`;
  for (const key of Object.keys(localStorage)) if (key.startsWith(prefix)) localStorage.removeItem(key);
  for (const entry of await readOutbox().catch(() => [])) await dropFromOutbox(entry);
  noteSignedIn(false);
}
