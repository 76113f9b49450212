/** An alert takes over the page, with a sound that does not end before one has said that one has seen it. */
import {ApiError, post} from '../core/api.js';
import {isLeading} from '../core/feed.js';
import {find, icon, make} from '../core/dom.js';
import {apply, isAdmin, isHeard, listen, localTime, state, tell, userName} from '../core/state.js';
import {alertWords as words} from '../text/alert-words.js';
import {clockTime} from '../text/measures.js';
import {ringAlone, showUrgent} from '../views/alerts.js';
import {showModal} from '../views/dialog.js';
import {playAlarm} from '../views/sounds.js';
import {banner, toast} from '../views/toast.js';

/* The sound comes again after so long (ms). */
const BEAT = 1500;
const BANNER = 'alert-banner';

/* The alert over the page, if any: {alert, dialog, notification}; whom the server could not be told of yet. */
let shown = null;
const unsent = new Set();

const mayBeSilent = alert => alert.acknowledged || unsent.has(alert.id);
const note = text => shown && find('.alert-note', shown.dialog).replaceChildren(text);

for (const topic of ['snapshot', 'alert', 'acknowledged']) listen(topic, look);
listen('link', ({status}) => status === 'on' && unsent.forEach(acknowledge));
setInterval(beat, BEAT);
look();

/* Shows what is to be seen first, and takes away what is over or seen, here or on another device. */
function look() {
  const going = [...state.alerts.values()];
  const next = going.find(alert => !alert.acknowledged);
  if (shown && !shown.again && (!next || next.id !== shown.alert.id)) takeAway();
  if (shown && shown.again && (next || !state.alerts.has(shown.alert.id))) takeAway();
  if (next && !shown) show(next);
  drawBanner(going.find(alert => alert.acknowledged));
}

function show(alert, again = false) {
  const dialog = buildDialog(alert, again);
  const body = alert.drill ? `${words.drill}: ${alert.text}` : alert.text;
  const notification = !again && isLeading() ? showUrgent(alert.drill ? words.drill : words.urgent, body) : null;
  shown = {alert, dialog, notification, again};
  dialog.addEventListener('cancel', event => again || event.preventDefault());
  dialog.addEventListener('close', () => onClose(dialog));
  showModal(dialog, !again);
  /* Not the button: whoever was writing would press it unseen. */
  find('h2', dialog).focus();
  beat();
}

/* Browsers may close a dialog in spite of all; what was not seen comes back. */
function onClose(dialog) {
  if (!shown || shown.dialog !== dialog) return;
  shown = null;
  look();
}

function takeAway() {
  const {alert, dialog, notification} = shown;
  shown = null;
  if (notification) notification.close();
  dialog.close();
  if (!state.alerts.has(alert.id)) toast(alert.drill ? words.drillOver : words.over, {name: 'siren'});
}

function buildDialog(alert, again) {
  const {drill, created_by: maker, created_at: at, text} = alert;
  const head = (drill ? words.drillFrom : words.from)(userName(maker), clockTime(localTime(at)));
  const button = make('button', {type: 'button', className: 'alert-seen'}, icon('check', 20), again ? words.close : words.seen);
  const dialog = make('dialog', {className: drill ? 'alert drill' : 'alert', role: 'alertdialog', 'aria-labelledby': 'alert-text', 'aria-describedby': 'alert-about'},
    make('p', {id: 'alert-about'}, icon('siren', 22), make('span', {}, head)),
    drill ? make('p', {className: 'alert-drill'}, make('b', {}, words.drill), make('span', {}, words.drillText)) : null,
    make('h2', {id: 'alert-text', tabIndex: -1, dir: 'auto'}, text),
    button, make('p', {className: 'alert-note', role: 'status'}));
  button.addEventListener('click', () => again ? dialog.close() : acknowledge(alert.id));
  return dialog;
}

/* Silent at once; the server is told as soon as it can be. */
async function acknowledge(id) {
  unsent.add(id);
  try {
    await post(`/alerts/${id}/ack`);
    unsent.delete(id);
    apply({kind: 'acknowledged', value: {alert_id: id, user_id: state.me.id}});
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    note(error.status ? error.message : words.sending);
    if (error.status) unsent.delete(id);
  }
}

function beat() {
  if (!shown || shown.again || mayBeSilent(shown.alert)) return;
  if (navigator.userActivation && !navigator.userActivation.hasBeenActive) return void note(words.noSound);
  if (find('.alert-note', shown.dialog).textContent === words.noSound) note('');
  if (navigator.vibrate) navigator.vibrate([300, 100, 300]);
  ringAlone('alarm', playAlarm);
}

/* For those who have seen it, and for those who call the roll. */
function drawBanner(alert) {
  banner(BANNER, null);
  if (!alert) return;
  const mayCall = isAdmin() && isHeard('go-admin');
  banner(BANNER, {
    kind: alert.drill ? 'lost' : 'alarm', icon: 'siren', title: alert.drill ? words.drillGoingOn : words.goingOn, text: alert.text,
    label: mayCall ? words.rollCall : words.showAgain, run: mayCall ? () => tell('go-admin', 'alerts') : () => show(alert, true),
  });
}
