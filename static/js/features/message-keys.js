/** Moving through the messages by single letters, as in vi, and opening what a message leads to. */
import {find} from '../core/dom.js';
import {openChannel} from '../core/state.js';
import {keysWords} from '../text/keys-words.js';
import {messageBox} from '../views/composer.js';
import {cursorRow, hasCursor, messageRows, placeCursor} from '../views/cursor.js';
import {addShortcut} from '../views/shortcuts.js';
import {jumpToLatest} from '../views/timeline.js';
import {toast} from '../views/toast.js';

/* What a message may lead to, the likeliest first. */
const OPENABLE = ['.quote[href]', '.attachments :is(a, button)', '.text a[href]'];

const BY_KEY = [
  {keys: 'J', label: keysWords.nextMessage, run: () => move(1)},
  {keys: 'K', label: keysWords.previousMessage, run: () => move(-1)},
  {keys: 'D', label: keysWords.halfPageDown, run: () => turn(1)},
  {keys: 'U', label: keysWords.halfPageUp, run: () => turn(-1)},
  {keys: 'G G', label: keysWords.oldestMessage, run: () => placeCursor(messageRows()[0])},
  {keys: 'Shift+G', label: keysWords.newestMessage, run: toNewest},
  {keys: 'O', label: keysWords.openMessage, run: openMessage},
  {keys: 'I', label: keysWords.write, run: () => messageBox() && messageBox().focus()},
  {keys: 'F', label: keysWords.findInChannel, group: 'finding', run: findInChannel},
];

for (const shortcut of BY_KEY) addShortcut({group: 'messages', single: true, ...shortcut});

/* The first press shows where one is. */
function move(by) {
  const rows = messageRows();
  const at = rows.indexOf(cursorRow());
  placeCursor(hasCursor() ? rows[at + by] : rows[at]);
}

/* The cursor stays at its height on the screen; where nothing is left to scroll, it goes to the end itself. */
function turn(by) {
  const timeline = find('#timeline');
  const row = cursorRow();
  if (!row) return;
  const height = row.getBoundingClientRect().top;
  const before = timeline.scrollTop;
  timeline.scrollTop += by * timeline.clientHeight / 2;
  const rows = messageRows();
  const edge = by < 0 ? rows[0] : rows[rows.length - 1];
  placeCursor(timeline.scrollTop === before ? edge : rows.find(other => other.getBoundingClientRect().bottom > height) || edge);
}

async function toNewest() {
  await jumpToLatest();
  placeCursor(messageRows().pop());
}

function openMessage() {
  const row = cursorRow();
  const lead = row && OPENABLE.map(selector => find(selector, row)).find(Boolean);
  if (lead) lead.click();
  else toast(keysWords.nothingToOpen, {name: 'info'});
}

/* A direct channel has no name to search in. */
function findInChannel() {
  const channel = openChannel();
  const button = find('#search');
  if (channel && channel.name) button.dataset.query = `in:#${channel.name} `;
  button.click();
}
