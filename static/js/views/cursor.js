/** The message that keys act on: the one with the focus, else the one that had it last, as long as it is in view. */
import {find, findAll} from '../core/dom.js';
import {listen} from '../core/state.js';

const ROW = '#messages article';

/* Which row it was, and how high it stood. */
const last = {key: '', top: Infinity};

document.addEventListener('focusin', event => {
  const row = rowAt(event.target);
  if (row) Object.assign(last, {key: row.dataset.key, top: topOf(row)});
});

listen('route', () => Object.assign(last, {key: '', top: Infinity}));

const topOf = row => row.getBoundingClientRect().top;

const rowAt = element => element && element.closest(ROW);

/** The rows of the open channel, oldest first. */
export const messageRows = () => findAll(ROW);

/** The row that keys act on; where it was deleted the one that took its place, where there is none yet the newest in view. */
export function cursorRow() {
  const focused = rowAt(document.activeElement);
  if (focused) return focused;
  const inView = messageRows().filter(isInView);
  return inView.find(row => row.dataset.key === last.key) || inView.find(row => topOf(row) >= last.top) || inView[inView.length - 1] || null;
}

function isInView(row) {
  const {top, bottom} = row.getBoundingClientRect();
  const view = find('#timeline').getBoundingClientRect();
  return top < view.bottom && bottom > view.top;
}

/** Whether keys act on a row already, so that they can move on from it. */
export function hasCursor() {
  const row = cursorRow();
  return Boolean(row) && row.dataset.key === last.key;
}

/** Puts the focus on a row and brings it into view. */
export function placeCursor(row) {
  if (!row) return;
  row.focus({preventScroll: true});
  row.scrollIntoView({block: 'nearest'});
}
