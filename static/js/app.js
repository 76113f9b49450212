/** Starts the page: who is here, the frame, the features, then news. */
import {ApiError, get} from './core/api.js';
import {claim, fill, find, styled, useWords} from './core/dom.js';
import {loadSnapshot, startFeed} from './core/feed.js';
import {startOutbox} from './core/outbox.js';
import {listen, resetToken, tell} from './core/state.js';
import {mayBeSignedIn, noteSignedIn} from './core/store.js';
import {words} from './text/words.js';
import {startAppearance} from './views/appearance.js';
import {startComposer} from './views/composer.js';
import {onMessageDrawn} from './views/message.js';
import {startRouting} from './views/routing.js';
import {startSidebar} from './views/sidebar.js';
import {redraw, startTimeline} from './views/timeline.js';
import {fetched} from './views/toast.js';
import {startTopbar} from './views/topbar.js';
import './features/connection.js';
import './features/drafts.js';
import './features/replies.js';

/* What nobody needs to see and write comes once the page stands: what a key may ask for at once, the rest a moment later. */
const NEXT = [
  () => import('./features/reading.js'),
  () => import('./features/uploads.js'),
  () => import('./features/channel-keys.js'),
  () => import('./features/message-actions.js'),
  () => import('./features/editing.js'),
  () => import('./features/insert.js'),
];
const SOON = [
  () => import('./features/alert.js'),
  () => import('./features/shortcodes.js'),
  () => import('./features/outsiders.js'),
  () => import('./features/reactions.js'),
  () => import('./features/pins.js'),
  () => import('./features/forward.js'),
  () => import('./features/receipts.js'),
  () => import('./features/presence.js'),
  () => import('./features/user-card.js'),
  () => import('./features/typing.js'),
  () => import('./features/message-keys.js'),
  () => import('./features/selection.js'),
  () => import('./features/previews.js'),
  () => import('./features/voice.js'),
  () => import('./features/notify.js'),
  () => import('./features/calls.js'),
  () => import('./features/favicon.js'), () => import('./features/install.js'),
  () => import('./features/still-images.js'),
  () => import('./views/menu.js'),
  () => import('./views/form.js'),
];
const FIRST_MOVES = ['pointermove', 'pointerdown', 'keydown'];
/* How long (ms) after there is something to read the rest comes unasked, and how long it waits for that. */
const SOON_AT_LATEST = 600;
const SHOWN_AT_LATEST = 3000;

/* What only some messages need comes when the first of them is drawn. */
const ON_FIRST_SIGHT = {
  '.code-block': () => import('./features/code-colours.js'),
  'figure.media': () => import('./features/players.js'),
};

/* What only helps with writing comes with the first letter. */
const ON_FIRST_INPUT = [
  () => import('./features/completion.js'),
];

/* What has a button and more than that to do comes as soon, or with the first use of the button. */
const SOON_WITH_BUTTON = {
  '#saved': () => import('./features/saved.js'),
};

/* What a person may never open is fetched when its button is first used. */
const ON_FIRST_USE = {
  ...SOON_WITH_BUTTON,
  '#unread': () => import('./features/unread.js'),
  '#mentions': () => import('./features/mentions.js'),
  '#add-channel, #add-private, #join-channel': () => import('./features/channels.js'),
  '#channel-menu, .set-topic': () => import('./features/channel-menu.js'),
  '#members, .add-people': () => import('./features/members.js'),
  '#add-direct, #new-message': () => import('./features/direct.js'),
  '#jump': () => dressed(import('./features/switcher.js'), 'switcher'),
  '#search': () => import('./features/search.js'),
  '#profile': () => import('./features/account.js'),
  'a.picture': () => dressed(import('./features/lightbox.js'), 'lightbox'),
};

/* The sections of the settings, fetched when they are first opened. */
const SETTINGS = [
  () => import('./features/settings-profile.js'),
  () => import('./features/settings-appearance.js'),
  () => import('./features/settings-notify.js'),
  () => import('./features/settings-sound.js'),
  () => import('./features/settings-writing.js'),
  () => import('./features/settings-account.js'),
  () => import('./features/settings-invite.js'),
  () => import('./features/settings-admin.js'),
  () => import('./features/connection-check.js'),
];

/* What takes the place of the conversation at an address `#/NAME` of its own, fetched when it is first opened. */
const PAGES = {
  'admin': () => dressed(import('./features/admin.js'), 'settings', 'admin', 'admin-lists', 'joining'),
};

const wait = time => new Promise(resolve => setTimeout(resolve, time));
const PHONE = matchMedia('(max-width: 719px)');
const RETRY = 3000;

/* Code together with the style sheets that only it needs. */
const dressed = async (module, ...sheets) => (await Promise.all([module, styled(...sheets)]))[0];

function loadOnFirstUse(event) {
  for (const [selector, load] of Object.entries(ON_FIRST_USE)) {
    const button = event.target.closest(selector);
    if (!button || isForNewTab(event, button)) continue;
    delete ON_FIRST_USE[selector];
    event.stopPropagation();
    event.preventDefault();
    /* News may have drawn the button anew meanwhile. */
    fetched(load()).then(loaded => {
      if (loaded) (button.isConnected ? button : find(selector)).click();
      else ON_FIRST_USE[selector] = load;
    });
  }
}

const isForNewTab = (event, button) => button.href && (event.ctrlKey || event.metaKey || event.shiftKey);

/* Anybody may tell `show-settings` with the name of a section, or with nothing for the first. */
async function showSettings(name) {
  const loads = [dressed(import('./views/settings.js'), 'settings', 'joining'), ...SETTINGS.map(load => load())];
  const loaded = await fetched(Promise.all(loads));
  if (loaded) loaded[0].openSettings(name);
}

async function start() {
  useWords(words);
  Object.keys(ON_FIRST_USE).forEach(claim);
  if (SETTINGS.length) claim('#open-settings');
  startAppearance();
  await signIn();
  find('#app').replaceChildren(fill('frame'));
  document.addEventListener('click', loadOnFirstUse, true);
  startViews();
  loadForPhones();
  startRouting(PAGES);
  startFeed();
  loadTheRestSoon();
  await startOutbox();
  requestAnimationFrame(() => find('#announcer').setAttribute('aria-live', 'polite'));
}

/* Wide windows have neither drawer nor screen keyboard. */
function loadForPhones() {
  if (!PHONE.matches) return PHONE.addEventListener('change', loadForPhones, {once: true});
  import('./features/drawer.js');
  import('./features/screen-keyboard.js');
}

/* What could not be fetched is fetched when the link is back. */
async function loadAll(loads) {
  const results = await Promise.all(loads.map(load => load().then(() => true, () => false)));
  const missing = loads.filter((load, index) => !results[index]);
  redraw();
  if (missing.length) await wait(RETRY).then(() => loadAll(missing));
}

/* First what there is to read, then the rest, which a first move may want at once. */
function loadTheRestSoon() {
  const moved = new Promise(resolve => FIRST_MOVES.forEach(kind => document.addEventListener(kind, resolve, {capture: true, once: true})));
  const shown = Promise.race([new Promise(resolve => listen('timeline-moved', resolve)), wait(SHOWN_AT_LATEST)]);
  const late = shown.then(() => wait(SOON_AT_LATEST));
  const next = Promise.race([moved, shown]).then(() => loadAll(NEXT));
  const rest = Promise.race([moved, late]).then(() => loadAll([...SOON, ...Object.values(SOON_WITH_BUTTON)]));
  Promise.all([next, rest]).then(() => performance.mark('complete'));
  document.addEventListener('input', () => loadAll(ON_FIRST_INPUT), {capture: true, once: true});
  onMessageDrawn(loadOnFirstSight);
}

function loadOnFirstSight(article) {
  for (const [selector, load] of Object.entries(ON_FIRST_SIGHT)) {
    if (!find(selector, article)) continue;
    delete ON_FIRST_SIGHT[selector];
    loadAll([load]);
  }
}

async function signIn() {
  for (;;) {
    try {
      if (resetToken()) await (await dressed(import('./views/reset.js'), 'sign-in', 'joining')).resetPage(resetToken());
      if (!mayBeSignedIn()) await greet();
      return await loadSnapshot();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      noteSignedIn(mayBeSignedIn() && error.status !== 401);
      if (error.status !== 401) await explainAndWait(error);
    }
  }
}

/* Where nobody is known to be signed in, the server says so without refusing anything. */
async function greet() {
  const [welcome, {signInPage}] = await Promise.all([get('/welcome'), dressed(import('./views/sign-in.js'), 'sign-in', 'joining')]);
  if (!welcome.signed_in) await signInPage(welcome);
}

function explainAndWait(error) {
  find('#app').replaceChildren(fill('banner', {title: words.noLinkTitle, text: error.message}));
  return wait(RETRY);
}

function startViews() {
  startTimeline();
  startTopbar();
  startComposer();
  startSidebar();
  listen('show-settings', showSettings);
  listen('preference', redraw);
  find('#open-settings').addEventListener('click', () => tell('show-settings'));
}

start();
