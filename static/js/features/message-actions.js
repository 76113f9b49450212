/** What one can do with a message: a toolbar under the pointer, a menu, a sheet after a long press, and keys on a focused row. */
import {remove} from '../core/api.js';
import {copyText, find, findAll, icon, isTouch, make} from '../core/dom.js';
import {addressOf, listen, mayDelete, tell} from '../core/state.js';
import {keysWords} from '../text/keys-words.js';
import {words} from '../text/words.js';
import {addMessageAction, messageActions} from '../views/message.js';
import {messageOf} from '../views/rows.js';
import {addShortcut, keyName, shownKeys} from '../views/shortcuts.js';
import {setHidden} from '../views/timeline.js';
import {attempt, toast} from '../views/toast.js';

const LONG_PRESS = 450;
const SLACK = 10;
/* How long (ms) after a finger is lifted its click may come. */
const CLICK_AFTER = 100;

const bar = make('div', {className: 'message-toolbar', role: 'toolbar', 'aria-label': words.messageActions});
const deleting = new Map();

addMessageAction({name: 'copy', icon: 'copy', label: words.copyText, order: 30, may: message => Boolean(message.text), run: copyMessage});
addMessageAction({name: 'link', icon: 'link', label: words.copyLink, order: 40, may: message => Boolean(message.id), run: copyLink});
addMessageAction({
  name: 'delete', icon: 'trash', label: words.delete, order: 90, danger: true,
  may: message => message.id && message.kind === 'text' && !message.deleted && mayDelete(message),
  run: deleteSoon,
});

async function copyMessage(message) {
  await copyText(message.text);
  toast(words.copied);
}

async function copyLink(message) {
  await copyText(location.href.split('#')[0] + addressOf(message.channel_id, message.id));
  toast(words.copied);
}

/* Gone from view at once, from the server when the undo runs out or the page is left: also while the server is being told. */
function deleteSoon(message) {
  deleting.set(message.id, message);
  setHidden(message.id, true);
  toast(words.messageDeleted, {
    name: 'trash', after: () => deleteNow(message),
    action: {label: words.undo, run: () => { deleting.delete(message.id); setHidden(message.id, false); }},
  });
}

/* What is left in its place shows at once: the news of it may be long in coming. */
async function deleteNow(message) {
  const done = await attempt(() => remove(`/messages/${message.id}`).then(() => true));
  deleting.delete(message.id);
  if (done) tell('message', {...message, text: '', files: [], previews: [], reactions: {}, mentions: [], pinned: false, deleted: true});
  setHidden(message.id, false);
}

/* Several are asked about before; nothing brings them back. */
listen('delete-messages', async messages => {
  for (const message of messages) deleting.set(message.id, message);
  for (const message of messages) await deleteNow(message);
});

addEventListener('pagehide', () => {
  for (const id of deleting.keys()) fetch(`/messages/${id}`, {method: 'DELETE', keepalive: true, credentials: 'same-origin'});
});

const allowed = message => messageActions.filter(action => action.may(message));

function articleAt(target) {
  return target.closest ? target.closest('#messages article.message') : null;
}

function showToolbar(article) {
  const message = messageOf(article);
  if (!message || !message.id || article.classList.contains('editing') || bar.parentElement === article) return;
  const quick = allowed(message).filter(action => action.quick).map(action => quickButton(action, message, article));
  bar.replaceChildren(...quick, moreButton(message, article));
  article.append(bar);
}

function quickButton(action, message, article) {
  const button = toolbarButton(action.glyph || icon(action.icon, 18), action.label, action.key);
  button.classList.toggle('glyph', Boolean(action.glyph));
  button.addEventListener('click', () => { bar.remove(); action.run(message, article); });
  return button;
}

function moreButton(message, article) {
  const button = toolbarButton(icon('more', 18), words.more);
  button.setAttribute('aria-haspopup', 'menu');
  button.addEventListener('click', () => openActions(button, message, article));
  return button;
}

function toolbarButton(sign, text, key) {
  const tip = make('span', {className: 'tip', 'aria-hidden': 'true'}, text, key ? make('kbd', {}, shownKeys(key)) : null);
  return make('button', {type: 'button', 'aria-label': text}, sign, tip);
}

async function openActions(button, message, article) {
  const {openMenu} = await import('../views/menu.js');
  const items = allowed(message).filter(action => !action.toolbarOnly).map(action => menuEntry(action, message, article));
  const at = items.findIndex(item => item.danger);
  if (at > 0) items.splice(at, 0, 'rule');
  openMenu(button, words.messageActions, items);
}

function menuEntry(action, message, article) {
  const row = action.row && action.row(message, article);
  return row || {...action, key: action.key && shownKeys(action.key), run: () => action.run(message, article)};
}

document.addEventListener('pointerover', event => {
  if (event.pointerType === 'touch') return;
  const article = articleAt(event.target);
  if (article) showToolbar(article);
  else if (!bar.contains(document.activeElement)) bar.remove();
});

document.addEventListener('focusin', event => {
  const article = articleAt(event.target);
  if (article && !isTouch()) showToolbar(article);
});

/* One tab stop for the whole list; the arrows move within it. */
const STEPS = {ArrowUp: -1, ArrowDown: 1};
addShortcut({keys: Object.keys(STEPS), label: keysWords.moveByArrows, group: 'message'});
addShortcut({keys: 'Escape', label: keysWords.backToWriting, group: 'message'});

document.addEventListener('keydown', event => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.id === 'timeline' && STEPS[event.key]) return focusRow(event, findAll('#messages article').pop());
  const article = event.target.matches && event.target.matches('#messages article') ? event.target : null;
  if (!article) return;
  if (STEPS[event.key]) return moveFocus(event, article);
  runKey(event, article);
});

function moveFocus(event, article) {
  const rows = findAll('#messages article');
  focusRow(event, rows[rows.indexOf(article) + STEPS[event.key]]);
}

function focusRow(event, row) {
  if (!row) return;
  event.preventDefault();
  row.focus();
}

function runKey(event, article) {
  const message = messageOf(article);
  if (event.key === 'Escape') return find('#message-text') && find('#message-text').focus();
  const action = message && allowed(message).find(({key}) => key && key === keyName(event));
  if (!action) return;
  event.preventDefault();
  action.run(message, article);
}

/* A long press opens the sheet; a finger that wanders is scrolling. */
let press = null;

document.addEventListener('pointerdown', event => {
  const article = event.pointerType === 'touch' && !event.target.closest('a, button, audio, video, textarea') && articleAt(event.target);
  const message = article && messageOf(article);
  if (!message || !message.id) return;
  press = {x: event.clientX, y: event.clientY, timer: setTimeout(openSheet, LONG_PRESS, message, article)};
});

/* The sheet rises under the finger: the click that ends the press is not a choice, that of the next press is. */
function openSheet(message, article) {
  openActions(article, message, article);
  const swallow = event => { event.stopPropagation(); event.preventDefault(); };
  document.addEventListener('click', swallow, true);
  const stop = () => document.removeEventListener('click', swallow, true);
  const stopSoon = () => setTimeout(stop, CLICK_AFTER);
  for (const kind of ['pointerup', 'pointercancel']) document.addEventListener(kind, stopSoon, {once: true, capture: true});
  document.addEventListener('pointerdown', stop, {once: true, capture: true});
}

document.addEventListener('pointermove', event => {
  if (press && Math.hypot(event.clientX - press.x, event.clientY - press.y) > SLACK) endPress();
});

for (const kind of ['pointerup', 'pointercancel']) document.addEventListener(kind, endPress);

function endPress() {
  if (press) clearTimeout(press.timer);
  press = null;
}

/* On touch the long press is ours; the browser's own menu would cover the sheet. */
document.addEventListener('contextmenu', event => isTouch() && articleAt(event.target) && !event.target.closest('a') && event.preventDefault());

document.addEventListener('click', async event => {
  const copy = event.target.closest('.copy-code');
  if (!copy) return;
  await copyText(find('code', copy.closest('.code-block')).textContent);
  toast(words.copied);
});
