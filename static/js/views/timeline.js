/** The messages of the open channel: opening, following, paging, jumping. */
import {ApiError, ignoreLink} from '../core/api.js';
import {distanceToEnd, find, firstInView, isLookedAt, keepScroll, make, setSlot} from '../core/dom.js';
import {listen, openChannel, state, tell} from '../core/state.js';
import {MessageWindow} from '../core/window.js';
import {words} from '../text/words.js';
import {toast} from './toast.js';
import {markRow, messageOf, rowsOf, showRows} from './rows.js';

const [PAGING_EDGE, END_SLACK, PILL_DISTANCE] = [800, 40, 400];

/* The one view: its window, the New divider, messages hidden until an undo runs out, the newest of others, news below, an end asked for in vain. */
const view = {window: null, dividerAfter: null, hidden: new Set(), latest: 0, news: 0, following: true, endTop: 0, jumping: false, missed: false};

const scroller = () => find('#timeline');
const rows = () => find('#messages');

/** Wires the timeline to what is told; call once the frame stands. */
export function startTimeline() {
  scroller().addEventListener('scroll', onScroll, {passive: true});
  find('#jump-to-latest').addEventListener('click', jumpToLatest);
  document.addEventListener('click', rememberPlace, true);
  new ResizeObserver(stayAtEnd).observe(scroller());
  new ResizeObserver(stayAtEnd).observe(rows());
  listen('message', onMessage);
  listen('outbox', channelId => (channelId === null || channelId === state.channelId) && redraw());
  listen('sent', onSent);
  listen('link', redraw);
  listen('user', redraw);
  listen('snapshot', refresh);
}

/** Opens a channel at a message, at a place one comes back to, at the New divider, or at the end. */
export async function showChannel(channelId, messageId, placeId) {
  if (!view.window || view.window.channelId !== channelId) startView(channelId);
  const goal = messageId || placeId || null;
  const {window} = view;
  try {
    if (!window.loaded || (goal ? !window.has(goal) : window.moreAfter)) await load(window, goal);
  } catch (error) {
    return showFailure(window, error);
  }
  if (view.window !== window) return;
  draw();
  land(messageId, placeId);
  page();
  tell('timeline-moved');
}

/** Empties the conversation, with a title and a text that say why. */
export function showEmpty(title, text, action = null) {
  view.window = null;
  rows().replaceChildren(make('div', {className: 'empty'}, make('h2', {}, title), make('p', {}, text), action));
  updatePill();
  tell('timeline-moved');
}

function startView(channelId) {
  const channel = state.channels.get(channelId);
  Object.assign(view, {
    window: new MessageWindow(channelId), news: 0, following: true, endTop: 0, missed: false,
    dividerAfter: channel.unread ? channel.read_to : null, latest: channel.last_message_id || 0,
  });
  rows().replaceChildren(make('p', {className: 'loading'}, words.loading));
}

function load(window, goal) {
  const around = goal || view.dividerAfter;
  return around === null ? window.openLatest() : window.openAround(around);
}

function showFailure(window, error) {
  if (!(error instanceof ApiError)) throw error;
  if (view.window !== window) return;
  const again = make('button', {type: 'button', className: 'button secondary'}, words.tryAgain);
  again.addEventListener('click', () => showChannel(window.channelId));
  const missing = error.status === 404 || error.status === 403;
  showEmpty(missing ? words.notFoundTitle : words.loadFailed, missing ? words.notFoundText : error.message, missing ? null : again);
}

function draw() {
  showRows(rows(), rowsOf(view));
  updatePill();
}

/** Shows what changed; the end stays the end, otherwise nothing moves. */
export function redraw() {
  if (!view.window || !view.window.loaded || !openChannel()) return;
  if (isFollowing()) {
    draw();
    toEnd();
  } else {
    keepScroll(scroller(), draw);
  }
}

function land(messageId, placeId) {
  const article = articleOf(messageId || placeId);
  if (messageId && article) return markArticle(article);
  if (messageId) toast(words.messageGone, {name: 'info'});
  if (placeId && article) return article.scrollIntoView({block: 'start'});
  const divider = find('.new-divider', rows());
  if (divider) scroller().scrollTop += divider.getBoundingClientRect().top - scroller().getBoundingClientRect().top - scroller().clientHeight * .2;
  else toEnd();
  noteFollowing();
}

/** The article that shows a message, when it is in the window. */
export function articleOf(messageId) {
  return messageId ? find(`[data-id="${messageId}"]`, rows()) : null;
}

function markArticle(article) {
  article.scrollIntoView({block: 'center'});
  noteFollowing();
  markRow(rows(), article);
  article.focus({preventScroll: true});
}

const atEnd = () => !view.window.moreAfter && distanceToEnd(scroller()) < END_SLACK;

function noteFollowing() {
  if (!view.window) return;
  view.missed = view.missed && distanceToEnd(scroller()) < END_SLACK;
  view.following = atEnd() || view.missed;
  if (view.following) {
    view.news = 0;
    if (history.state && history.state.place) history.replaceState(null, '');
  }
  updatePill();
}

/* A scroll that no event has told of yet must not be undone. */
const isFollowing = () => {
  if (scroller().scrollTop < view.endTop - END_SLACK) noteFollowing();
  return view.following;
};
const toEnd = () => { scroller().scrollTop = scroller().scrollHeight; view.endTop = scroller().scrollTop; };
const stayAtEnd = () => view.window && isFollowing() && toEnd();

function onScroll() {
  if (!view.window || !view.window.loaded) return;
  noteFollowing();
  /* On the way to the end nothing joins on to what is left behind. */
  if (!view.jumping) (view.missed ? jumpToLatest : page)();
  tell('timeline-moved');
}

function page() {
  if (view.window.moreBefore && scroller().scrollTop < PAGING_EDGE) extend('before');
  else if (view.window.moreAfter && distanceToEnd(scroller()) < PAGING_EDGE) extend('after');
}

async function extend(end) {
  const {window} = view;
  await window.extend(end, change => view.window === window && keepScroll(scroller(), () => { change(); draw(); })).catch(ignoreLink);
}

function updatePill() {
  const pill = find('#jump-to-latest');
  const far = view.window && view.window.loaded && (view.window.moreAfter || distanceToEnd(scroller()) > PILL_DISTANCE);
  pill.hidden = !(far || view.news);
  pill.classList.toggle('has-news', view.news > 0);
  pill.dataset.count = view.news;
  setSlot(pill, 'text', view.news ? words.newBelow(view.news) : words.jumpToLatest);
}

/** Goes to the newest message; where the server cannot be asked, as far as it goes, and on with the next news. */
export async function jumpToLatest() {
  const {window} = view;
  Object.assign(view, {jumping: true, missed: false});
  if (window.moreAfter) await window.openLatest().catch(ignoreLink);
  view.jumping = false;
  if (view.window !== window) return;
  view.missed = window.moreAfter;
  draw();
  toEnd();
  noteFollowing();
  tell('timeline-moved');
}

function onMessage(message) {
  const {window} = view;
  if (!window || message.channel_id !== window.channelId) return;
  const newestBefore = Math.max(view.latest, window.newestId);
  /* What is told again, because it changed, may lie after the window as well. */
  const isNew = message.id > view.latest && message.user_id !== state.me.id && !message.deleted;
  if (isNew) view.latest = message.id;
  const what = window.take(message, view.following);
  if (what === 'elsewhere') return;
  if (isNew && what !== 'changed') onNews(message, newestBefore);
  if (view.missed) jumpToLatest();
  redraw();
  tell('timeline-moved');
}

function onNews(message, newestBefore) {
  if (!view.following) view.news += 1;
  if (view.dividerAfter === null && !(isLookedAt() && view.following)) view.dividerAfter = newestBefore;
  tell('news', message);
}

function onSent(channelId) {
  if (!view.window || channelId !== view.window.channelId) return;
  Object.assign(view, {dividerAfter: null, following: true});
  redraw();
  if (view.window.moreAfter) jumpToLatest();
}

async function refresh() {
  const {window} = view;
  if (!window || !window.loaded) return;
  const place = view.following || view.jumping ? null : firstVisible();
  await (place && place.id ? window.openAround(place.id) : window.openLatest()).catch(ignoreLink);
  if (view.window === window) redraw();
}

const firstVisible = () => messageOf(firstInView(scroller()));

/* Following a link from the middle of a channel: Back returns to what was in view. */
function rememberPlace(event) {
  if (!event.target.closest('a[href^="#/"]') || !view.window || view.following) return;
  const place = firstVisible();
  if (place && place.id) history.replaceState({...history.state, place: place.id}, '');
}

/** The id of the newest message when it is in view, else 0. */
export function newestInView() {
  return view.window && view.window.loaded && atEnd() ? view.window.newestId : 0;
}

/** Hides a message until an undo runs out, or shows it again. */
export function setHidden(messageId, hidden) {
  view.hidden[hidden ? 'add' : 'delete'](messageId);
  redraw();
}

/** Puts the New divider after a message; everything below it is new. */
export function divideAfter(messageId) {
  view.dividerAfter = messageId;
  redraw();
}

/** The messages of the window that is shown, oldest first. */
export const shownMessages = () => view.window ? view.window.messages : [];
