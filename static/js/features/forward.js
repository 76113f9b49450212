/** Passing a message on, from its menu. */
import {styled} from '../core/dom.js';
import {inboxWords} from '../text/inbox-words.js';
import {addMessageAction} from '../views/message.js';
import {fetched} from '../views/toast.js';

addMessageAction({
  name: 'forward', icon: 'forward', label: inboxWords.forward, order: 15,
  may: message => Boolean(message.id && message.kind === 'text' && !message.deleted),
  run: forward,
});

async function forward(message) {
  const loaded = await fetched(Promise.all([import('../views/forward-dialog.js'), styled('switcher')]));
  if (loaded) loaded[0].openForward(message);
}
