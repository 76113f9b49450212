/** What draws attention outside the page: notifications of the system, sounds, shaking. */
import {isLeading} from '../core/feed.js';
import {preference} from '../core/preferences.js';
import {addressOf, channelName, state, userName} from '../core/state.js';
import {keepForDevice, keptForDevice} from '../core/store.js';
import {plainLine} from '../text/markup.js';
import {notifyWords as words} from '../text/notify-words.js';
import {playSound} from './sounds.js';

const SHAKES = {message: [80], mention: [80, 60, 80], call: [400, 200, 400]};
/* One sound of a kind, whatever comes within this time (ms). */
const RING_TIME = 700;
const WORKER = '/static/js/features/notify-worker.js';

/* The notifications that this page put on the screen, by channel; the last one stands in for those before it. */
const shown = new Map();

const tagOf = channelId => `minimost-${channelId}`;

/**
 * What notifications can do on this device: 'on', 'off' (by choice), 'ask', 'denied',
 * 'insecure' (plain HTTP), 'untrusted' (needs a trusted certificate), 'unsupported'.
 */
export function notificationState() {
  if (!window.isSecureContext) return 'insecure';
  if (typeof Notification !== 'function') return 'unsupported';
  if (Notification.permission === 'denied') return 'denied';
  if (Notification.permission === 'default') return 'ask';
  return keptForDevice('notifications') || 'on';
}

/** Asks the browser, which it allows after a click alone, and shows a first notification; returns the new state. */
export async function turnOnNotifications() {
  keepForDevice('notifications', null);
  await Notification.requestPermission();
  if (notificationState() === 'on') await show(words.firstTitle, {body: words.firstText, tag: 'minimost'}, () => {});
  return notificationState();
}

export function turnOffNotifications() {
  keepForDevice('notifications', 'off');
}

/** Shows one notification for messages of one channel, in place of an earlier one. */
export function showMessages(messages) {
  if (notificationState() !== 'on') return;
  const message = messages[messages.length - 1];
  const {channel_id: channelId, id} = message;
  const data = {address: addressOf(channelId, id), messageId: id};
  const options = {body: bodyOf(messages), tag: tagOf(channelId), renotify: true, silent: true, icon: '/static/favicon.svg', data};
  show(titleOf(message), options, notification => shown.set(channelId, notification));
}

/** Shows a notification of somebody who calls, where nobody looks at the page; it is given back, or null. */
export function showCall(title, channelId) {
  if (notificationState() !== 'on' || document.hasFocus()) return null;
  let shownNow = null;
  show(title, {tag: `minimost-call-${channelId}`, silent: true, requireInteraction: true, icon: '/static/favicon.svg', data: {address: addressOf(channelId), messageId: 0}},
    notification => { shownNow = notification; });
  return shownNow;
}

function titleOf({user_id: userId, channel_id: channelId}) {
  const channel = state.channels.get(channelId);
  if (!channel || channel.kind === 'direct') return userName(userId);
  return words.title(userName(userId), channelName(channel));
}

function bodyOf(messages) {
  const {text} = messages[messages.length - 1];
  if (!preference('notification_text', true)) return words.newMessages(messages.length);
  const line = plainLine(text) || words.sentFile;
  return messages.length > 1 ? `${words.newMessages(messages.length)}\n${line}` : line;
}

/* Android shows notifications only through a worker. */
async function show(title, options, keepNotification) {
  try {
    const notification = new Notification(title, options);
    notification.addEventListener('click', () => goTo(notification, options.data));
    keepNotification(notification);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    await showByWorker(title, options);
  }
}

function goTo(notification, data) {
  window.focus();
  notification.close();
  if (data) location.hash = data.address;
}

let policy = null;

async function showByWorker(title, options) {
  try {
    const registration = await navigator.serviceWorker.register(trusted(WORKER));
    await ready(registration);
    await registration.showNotification(title, options);
  } catch (error) {
    if (!(error instanceof DOMException || error instanceof TypeError)) throw error;
    keepForDevice('notifications', 'untrusted');
  }
}

/* The one address that a script may come from by name. */
function trusted(address) {
  if (!window.trustedTypes) return address;
  policy = policy || window.trustedTypes.createPolicy('minimost', {createScriptURL: () => WORKER});
  return policy.createScriptURL(address);
}

function ready({active, installing, waiting}) {
  const worker = installing || waiting;
  if (active || !worker) return null;
  return new Promise(resolve => worker.addEventListener('statechange', () => worker.state === 'activated' && resolve()));
}

/** Takes the notifications of a channel away once what they told was read. */
export async function closeNotification(channelId, readTo) {
  const notifications = [shown.get(channelId), ...await notificationsOfWorker(channelId)];
  for (const notification of notifications) if (notification && notification.data.messageId <= readTo) notification.close();
}

async function notificationsOfWorker(channelId) {
  const registration = navigator.serviceWorker && await navigator.serviceWorker.getRegistration(WORKER);
  return registration ? registration.getNotifications({tag: tagOf(channelId)}) : [];
}

/** Shows what everybody has to know at once, until it is taken away; returns the notification, if the system shows one. */
export function showUrgent(title, body) {
  const shown = {close: () => {}};
  if (notificationState() !== 'on') return shown;
  show(title, {body, tag: 'minimost-alert', requireInteraction: true, icon: '/static/favicon.svg'}, notification => {
    shown.close = () => notification.close();
  });
  return shown;
}

/** Whether this page was touched: no browser lets another one make a sound. */
export const mayRing = () => !navigator.userActivation || navigator.userActivation.hasBeenActive;

/** The sound and the shaking for a 'message', a 'mention' or a 'call', as the person likes them. */
export function ringNow(kind) {
  if (preference('sound', true)) playSound(kind);
  if (navigator.vibrate && preference('vibrate', true)) navigator.vibrate(SHAKES[kind]);
}

/** Makes a noise in one tab of this browser alone, for a while; browsers let only a page that was touched make any. */
export async function ringAlone(kind, act) {
  if (!mayRing()) return;
  if (navigator.locks) await navigator.locks.request(`minimost-ring-${kind}`, {ifAvailable: true}, lock => lock && hold(act));
  else if (isLeading()) act();
}

function hold(act) {
  act();
  return new Promise(resolve => setTimeout(resolve, RING_TIME));
}
