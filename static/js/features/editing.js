/** Editing a message where it stands, and a refused one before it is sent again. */
import {patch} from '../core/api.js';
import {fill, find, isComposing, keepScroll, make} from '../core/dom.js';
import {discard, outboxOf, retry} from '../core/outbox.js';
import {listen, mayWrite, openChannel, state, tell} from '../core/state.js';
import {keysWords} from '../text/keys-words.js';
import {words} from '../text/words.js';
import {grow, isSendKey, messageBox} from '../views/composer.js';
import {addMessageAction, onMessageDrawn} from '../views/message.js';
import {addShortcut} from '../views/shortcuts.js';
import {messageOf} from '../views/rows.js';
import {articleOf, redraw, shownMessages} from '../views/timeline.js';

/* Edits under way by the key of their row, {text, save}: the row goes when another channel is opened, and comes back. */
const edits = new Map();
const rowOf = key => find(`#messages [data-key="${CSS.escape(key)}"]`);

addMessageAction({
  name: 'edit', icon: 'edit', label: words.edit, key: 'E', order: 20, quick: true,
  may: message => message.id && message.user_id === state.me.id && message.kind === 'text' && !message.deleted && mayWrite(openChannel()),
  run: (message, article) => startEditing(article, message.text, text => saveEdit(message, text)),
});

async function saveEdit(message, text) {
  if (text === message.text) return;
  const answer = await patch(`/messages/${message.id}`, {text});
  tell('message', answer.message);
}

function startEditing(article, text, save) {
  if (!isEdited(article)) openForm(article, text, save);
  const box = find('.edit-form textarea', article);
  box.focus();
  box.setSelectionRange(box.value.length, box.value.length);
}

const isEdited = article => article.classList.contains('editing');

/* The row is marked `editing`, so that news about the message does not throw the text away. */
function openForm(article, text, save) {
  const form = fill('edit-form');
  const box = form.elements.text;
  box.value = text;
  box.setAttribute('aria-label', words.editMessage);
  article.classList.add('editing');
  find('.body', article).append(form);
  grow(box);
  wireForm(form, article.dataset.key, save);
}

function wireForm(form, key, save) {
  const box = form.elements.text;
  const note = () => edits.set(key, {text: box.value, save});
  note();
  box.addEventListener('input', () => { grow(box); note(); });
  box.addEventListener('keydown', event => onKey(event, form, key));
  form.elements.cancel.addEventListener('click', () => stopEditing(key));
  form.addEventListener('submit', async event => {
    event.preventDefault();
    const {submitted} = await import('../views/form.js');
    if (await submitted(form, values => save(values.text.trimEnd()))) stopEditing(key);
  });
}

function onKey(event, form, key) {
  if (isComposing(event)) return;
  const cancels = event.key === 'Escape';
  if (!cancels && !isSendKey(event)) return;
  event.preventDefault();
  event.stopPropagation();
  if (cancels) stopEditing(key);
  else form.requestSubmit();
}

function stopEditing(key) {
  edits.delete(key);
  const article = rowOf(key);
  if (article && isEdited(article)) closeForm(article);
  if (messageBox()) messageBox().focus();
}

function closeForm(article) {
  find('.edit-form', article).remove();
  article.classList.remove('editing');
  redraw();
}

/* The focus stays where it is: one may be writing something else by now. */
listen('timeline-moved', () => {
  const lost = [...edits.keys()].filter(key => mayReopen(rowOf(key)));
  if (lost.length) keepScroll(find('#timeline'), () => lost.forEach(reopen));
});

const mayReopen = article => article && !isEdited(article) && !messageOf(article).deleted;

function reopen(key) {
  const {text, save} = edits.get(key);
  openForm(rowOf(key), text, save);
}

const isMine = message => message.user_id === state.me.id && message.kind === 'text' && !message.deleted;

addShortcut({
  keys: 'ArrowUp', label: keysWords.editLast, group: 'writing',
  may: event => event.target === messageBox() && !event.target.value && lastOwn(), run: () => editMessage(lastOwn()),
});

function lastOwn() {
  const message = shownMessages().filter(isMine).pop();
  return message && articleOf(message.id) ? message : null;
}

function editMessage(message) {
  const article = articleOf(message.id);
  article.scrollIntoView({block: 'nearest'});
  startEditing(article, message.text, text => saveEdit(message, text));
}

onMessageDrawn((article, message) => {
  if (message.id || article.classList.contains('sending')) return;
  const entry = outboxOf(message.channel_id).find(other => other.client_id === message.client_id);
  const actions = find('.delivery-actions', article);
  /* What only waits may have reached the server already: it can be dropped here, but not become another message. */
  if (entry.status === 'failed') actions.append(
    action(words.retry, () => retry(entry)),
    action(words.edit, () => startEditing(article, entry.text, text => retry(entry, text))),
  );
  actions.append(action(words.delete, () => discard(entry)));
});

function action(label, run) {
  const button = make('button', {type: 'button'}, label);
  button.addEventListener('click', run);
  return button;
}
