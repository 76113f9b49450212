/** Choosing several messages, as in vi's visual mode or from a message's menu, and doing one thing with all of them. */
import {copyText, find, icon, make} from '../core/dom.js';
import {addressOf, listen, state, tell, userName} from '../core/state.js';
import {keysWords as words} from '../text/keys-words.js';
import {fullTime} from '../text/measures.js';
import {cursorRow, messageRows, placeCursor} from '../views/cursor.js';
import {ask} from '../views/dialog.js';
import {addMessageAction, messageActions, onMessageDrawn} from '../views/message.js';
import {messageOf} from '../views/rows.js';
import {addShortcut, shownKeys} from '../views/shortcuts.js';
import {articleOf, shownMessages} from '../views/timeline.js';
import {toast} from '../views/toast.js';

/* From the message where it began to the one it was drawn to, by id; what comes later lies outside. */
const range = {channelId: null, anchor: 0, head: 0};
const note = make('span', {role: 'status'});
const bar = make('div', {className: 'selection-bar', role: 'toolbar', 'aria-label': words.selection});

const ON_ALL = [
  {keys: ['C', 'Ctrl+C'], icon: 'copy', label: words.copySelected, run: copyAll},
  {keys: 'Y', icon: 'link', label: words.linksOfSelected, run: copyLinks},
  {keys: 'P', icon: 'pin', label: words.pinSelected, run: pinAll},
  {keys: 'E', icon: 'edit', label: words.editSelected, run: editOne},
  {keys: 'D', icon: 'trash', label: words.deleteSelected, run: deleteAll},
  {keys: ['Escape', 'V'], icon: 'x', label: words.endSelection, run: stop},
];

addShortcut({keys: 'V', label: words.select, group: 'selection', single: true, may: () => !isOn(), run: () => start(messageOf(cursorRow()))});
for (const {keys, label, run} of ON_ALL) addShortcut({keys, label, group: 'selection', single: true, mode: true, may: isOn, run});
bar.append(note, ...ON_ALL.map(barButton));

addMessageAction({name: 'select', icon: 'check', label: words.select, order: 45, may: message => message.id && !message.deleted, run: start});

listen('route', () => state.channelId !== range.channelId && stop());
onMessageDrawn((article, message) => article.classList.toggle('selected', isSelected(message)));

/* Whatever moves the focus from message to message draws the selection along. */
document.addEventListener('focusin', event => {
  const message = isOn() && messageOf(event.target.closest('#messages article'));
  if (!message || !message.id) return;
  range.head = message.id;
  draw();
});

function barButton({keys, icon: name, label, run}) {
  const button = make('button', {type: 'button', title: `${label} (${shownKeys([keys].flat()[0])})`, 'aria-label': label}, icon(name, 18));
  button.addEventListener('click', run);
  return button;
}

function isOn() {
  return range.anchor > 0;
}

function isSelected({id}) {
  return isOn() && id >= Math.min(range.anchor, range.head) && id <= Math.max(range.anchor, range.head);
}

function start(message) {
  if (!message || !message.id) return;
  Object.assign(range, {channelId: message.channel_id, anchor: message.id, head: message.id});
  find('#conversation').append(bar);
  placeCursor(articleOf(message.id));
  draw();
}

function stop() {
  if (!isOn()) return;
  range.anchor = range.head = 0;
  if (bar.contains(document.activeElement)) placeCursor(cursorRow());
  bar.remove();
  draw();
}

function draw() {
  for (const row of messageRows()) row.classList.toggle('selected', isSelected(messageOf(row)));
  note.textContent = isOn() ? words.selected(selected().length) : '';
}

/* What changed the channel is not a message to do anything with. */
function selected() {
  return shownMessages().filter(message => isSelected(message) && message.kind === 'text' && !message.deleted && articleOf(message.id));
}

const actionFor = (name, message) => messageActions.find(action => action.name === name && action.may(message));

/** Runs an action of the message menu on those of the selected that it may be done with; gives how many they were. */
function runOn(name, messages = selected()) {
  const fit = messages.filter(message => actionFor(name, message));
  for (const message of fit) actionFor(name, message).run(message, articleOf(message.id));
  return fit.length;
}

function copyAll() {
  const messages = selected();
  return copy(messages.length === 1 ? textOf(messages[0]) : messages.map(quoted).join('\n\n'));
}

const textOf = message => [message.text, ...(message.files || []).map(file => file.name)].filter(Boolean).join('\n');
const quoted = message => `${userName(message.user_id)}, ${fullTime(message.created_at)}\n${textOf(message)}`;

function copyLinks() {
  const page = location.href.split('#')[0];
  return copy(selected().map(message => page + addressOf(message.channel_id, message.id)).join('\n'));
}

async function copy(text) {
  const count = selected().length;
  if (!count) return;
  await copyText(text);
  stop();
  toast(words.copied(count));
}

/* When all are pinned, they are unpinned. */
function pinAll() {
  const done = runOn('pin') || runOn('unpin');
  if (!done) return toast(words.mayNot, {name: 'info'});
  stop();
}

function editOne() {
  const [message, ...others] = selected();
  if (others.length || !message || !actionFor('edit', message)) return toast(words.oneToEdit, {name: 'info'});
  stop();
  runOn('edit', [message]);
}

/* One can be brought back from the note that says so; several are asked about. */
async function deleteAll() {
  const messages = selected().filter(message => actionFor('delete', message));
  if (!messages.length) return toast(words.mayNot, {name: 'info'});
  if (messages.length > 1 && !await ask(words.deleteQuestion(messages.length), words.deleteExplained, words.deleteSelected, {danger: true})) return;
  stop();
  if (messages.length === 1) return runOn('delete', messages);
  tell('delete-messages', messages);
}
