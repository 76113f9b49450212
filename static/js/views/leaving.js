/** Leaving the place: nothing of the person stays in this browser. */
import {ApiError, post} from '../core/api.js';
import {holdFeed} from '../core/feed.js';
import {outboxSize} from '../core/outbox.js';
import {broadcast, wipe} from '../core/store.js';
import {words} from '../text/words.js';
import {ask} from './dialog.js';
import {attempt} from './toast.js';

/** Signs out, after a question where messages still wait. */
export async function signOut() {
  const waiting = outboxSize();
  if (waiting && !await ask(words.signOutQuestion, words.signOutWaiting(waiting), words.signOut, {danger: true})) return;
  await attempt(() => leaveBy(() => post('/logout')));
}

/** Does what ends the session on the server, then leaves. Raises ApiError, and stays, when the server refuses or cannot be asked. */
export async function leaveBy(end) {
  holdFeed(true);
  try {
    await end();
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) {
      holdFeed(false);
      throw error;
    }
  }
  await wipe();
  broadcast('goodbye');
  location.assign('/');
}
