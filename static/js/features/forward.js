/** Passing a message on, from its menu. */
import {inboxWords} from '../text/inbox-words.js';
import {addMessageAction} from '../views/message.js';
import {attempt} from '../views/toast.js';

addMessageAction({
  name: 'forward', icon: 'forward', label: inboxWords.forward, order: 15,
  may: message => Boolean(message.id && message.kind === 'text' && !message.deleted),
  run: message => attempt(async () => (await import('../views/forward-dialog.js')).openForward(message)),
});
