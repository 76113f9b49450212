/** What a person chose: kept on the server, heard by all their devices, and remembered here for the first look. */
import {ApiError, patch} from './api.js';
import {listen, state, tell} from './state.js';
import {keepForDevice, keptForDevice} from './store.js';

/* Needed before the server has answered, so that the page does not change under one's eyes. */
const FIRST_LOOK = ['theme', 'text_size', 'density', 'reduce_motion'];
const RETRY = 5000;

/* Chosen here and not yet on the server: wins over what the server tells meanwhile. */
const unsaved = new Map();
const saving = {running: false, timer: 0};
let known = {};

/** What the person chose, else `fallback`; while nobody is signed in, what this device showed last. */
export function preference(name, fallback) {
  const chosen = (state.me ? state.preferences : keptForDevice('preferences')) || {};
  return chosen[name] ?? fallback;
}

/** Whether animated images play by themselves: as chosen, else unless less motion is wanted. */
export function animatesImages() {
  const still = preference('reduce_motion', false) || matchMedia('(prefers-reduced-motion: reduce)').matches;
  return preference('animate_images', !still);
}

/** Chooses: valid here at once, then on the server and on the person's other devices. Nothing as `value` goes back to the default. */
export function choosePreference(name, value) {
  unsaved.set(name, value);
  takeIn(state.preferences);
  save();
}

listen('snapshot', () => {
  takeIn(state.preferences);
  save();
});
listen('preferences', takeIn);
listen('link', ({status}) => status === 'on' && save());

function takeIn(preferences) {
  state.preferences = {...preferences, ...Object.fromEntries(unsaved)};
  const before = known;
  known = state.preferences;
  remember();
  const names = new Set([...Object.keys(before), ...Object.keys(known)]);
  for (const name of names) if (!same(before[name], known[name])) tell('preference', name);
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function remember() {
  keepForDevice('preferences', Object.fromEntries(FIRST_LOOK.map(name => [name, state.preferences[name]])));
}

/* One request at a time, so that a later choice cannot arrive before an earlier one. */
async function save() {
  if (saving.running || !unsaved.size) return;
  clearTimeout(saving.timer);
  saving.running = true;
  const sent = new Map(unsaved);
  const error = await trySaving();
  saving.running = false;
  if (error && !error.refused) return saveLater(error);
  for (const [name, value] of sent) if (unsaved.get(name) === value) unsaved.delete(name);
  if (error) tell('preference-refused', error);
  save();
}

async function trySaving() {
  try {
    await patch('/me', {preferences: state.preferences});
    return null;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return error;
  }
}

/* With no link or no session there is news of either before a try can succeed. */
function saveLater({status, retryAfter}) {
  if (status === 0) tell('link-doubt');
  if (status !== 401) saving.timer = setTimeout(save, retryAfter ? retryAfter * 1000 : RETRY);
}
