/** Moving between channels by key, in the order in which the sidebar draws them, and from anywhere to the quick switcher. */
import {find, findAll, setSlot} from '../core/dom.js';
import {addressOf, listen, readRoute, state} from '../core/state.js';
import {keep, kept} from '../core/store.js';
import {keysWords} from '../text/keys-words.js';
import {messageBox} from '../views/composer.js';
import {addShortcut, showShortcuts, shownKeys} from '../views/shortcuts.js';
import {jumpToLatest} from '../views/timeline.js';
import {toast} from '../views/toast.js';

const SWITCHER = 'Ctrl+K';
const RECENT_KEPT = 20;

const BY_KEY = [
  {keys: SWITCHER, label: keysWords.jumpTo, run: () => find('#jump').click()},
  {keys: 'Alt+ArrowUp', label: keysWords.previousChannel, run: () => step(-1)},
  {keys: 'Alt+ArrowDown', label: keysWords.nextChannel, run: () => step(1)},
  {keys: 'Alt+Shift+ArrowUp', label: keysWords.previousUnread, run: () => stepToUnread(-1)},
  {keys: 'Alt+Shift+ArrowDown', label: keysWords.nextUnread, run: () => stepToUnread(1)},
  {keys: 'Escape', label: keysWords.jumpToLatest, may: mayJumpToLatest, run: jumpToLatest},
  {keys: 'Ctrl+/', label: keysWords.shortcuts, group: 'page', run: showShortcuts},
  {keys: '?', label: keysWords.shortcuts, group: 'page', single: true, run: showShortcuts},
];

for (const shortcut of BY_KEY) addShortcut({group: 'channels', ...shortcut});
setSlot(find('#sidebar'), 'jump-key', shownKeys(SWITCHER));

const rows = () => findAll('.channel-lists a.channel');
/* By the address: two quick presses move on twice, though the page draws but once. */
const isOpen = row => Number(row.dataset.id) === readRoute().channelId;

/* Around the ends; where the open channel has no row, from the first or the last. */
function step(by) {
  const all = rows();
  const at = all.findIndex(isOpen);
  const next = at < 0 && by < 0 ? all.length - 1 : (at + by + all.length) % all.length;
  if (all.length) open(all[next]);
}

function stepToUnread(by) {
  const all = rows();
  const at = all.findIndex(isOpen);
  const around = [...all.slice(at + 1), ...all.slice(0, Math.max(0, at))].filter(row => row.classList.contains('unread'));
  if (!around.length) return toast(keysWords.noUnread);
  open(by > 0 ? around[0] : around[around.length - 1]);
}

function open(row) {
  location.hash = addressOf(Number(row.dataset.id));
}

/* A focused message and the panel have an Esc of their own. */
function mayJumpToLatest({target}) {
  return !find('#jump-to-latest').hidden && (target === messageBox() || !target.closest('article, #panel, .selection-bar, input, textarea'));
}

/* The switcher offers first where one was last. */
function noteVisit() {
  const {channelId} = state;
  if (!channelId) return;
  const others = (kept('recent-channels') || []).filter(id => id !== channelId);
  keep('recent-channels', [channelId, ...others].slice(0, RECENT_KEPT));
}

listen('route', noteVisit);
noteVisit();
