/** Starts the page: who is here, the frame, the features, then news. */
import {ApiError, get} from './core/api.js';
import {claim, fill, find, useWords} from './core/dom.js';
import {loadSnapshot, startFeed} from './core/feed.js';
import {startOutbox} from './core/outbox.js';
import {listen, resetToken, tell} from './core/state.js';
import {mayBeSignedIn, noteSignedIn} from './core/store.js';
import {words} from './text/words.js';
import {startAppearance} from './views/appearance.js';
import {startComposer} from './views/composer.js';
import {startRouting} from './views/routing.js';
import {startSidebar} from './views/sidebar.js';
import {redraw, startTimeline} from './views/timeline.js';
import {toast} from './views/toast.js';
import {startTopbar} from './views/topbar.js';
import './features/connection.js';
import './features/drafts.js';
import './features/reading.js';
import './features/replies.js';
import './features/uploads.js';

/* What nobody needs to see and write comes once the page stands: what a key may ask for at once, the rest a moment later. */
const NEXT = [
  () => import('./features/channel-keys.js'),
  () => import('./features/message-actions.js'),
  () => import('./features/editing.js'),
  () => import('./features/insert.js'),
];
const SOON = [
  () => import('./features/alert.js'),
  () => import('./features/completion.js'),
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
  () => import('./features/code-colours.js'),
  () => import('./features/players.js'),
  () => import('./features/previews.js'),
  () => import('./features/voice.js'),
  () => import('./features/notify.js'),
  () => import('./features/calls.js'),
  () => import('./features/favicon.js'), () => import('./features/install.js'),
  () => import('./features/still-images.js'),
  () => import('./views/menu.js'),
  () => import('./views/form.js'),
];
const FIRST_MOVES = ['pointermove', 'pointerdown', 'keydown', 'focusin'];
const SOON_AT_LATEST = 600;

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
  '#jump': () => import('./features/switcher.js'),
  '#search': () => import('./features/search.js'),
  '#profile': () => import('./features/account.js'),
  'a.picture': () => import('./features/lightbox.js'),
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
  'admin': () => import('./features/admin.js'),
};

const PHONE = matchMedia('(max-width: 719px)');
const RETRY = 3000;

function loadOnFirstUse(event) {
  for (const [selector, load] of Object.entries(ON_FIRST_USE)) {
    const button = event.target.closest(selector);
    if (!button || isForNewTab(event, button)) continue;
    delete ON_FIRST_USE[selector];
    event.stopPropagation();
    event.preventDefault();
    /* News may have drawn the button anew meanwhile. */
    load().then(() => (button.isConnected ? button : find(selector)).click(), () => {
      ON_FIRST_USE[selector] = load;
      toast(words.noServer, {name: 'unplug'});
    });
  }
}

const isForNewTab = (event, button) => button.href && (event.ctrlKey || event.metaKey || event.shiftKey);

/* Anybody may tell `show-settings` with the name of a section, or with nothing for the first. */
async function showSettings(name) {
  const loads = [() => import('./views/settings.js'), ...SETTINGS].map(load => load());
  const loaded = await Promise.all(loads).catch(() => toast(words.noServer, {name: 'unplug'}));
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
  if (missing.length) setTimeout(loadAll, RETRY, missing);
}

function loadTheRestSoon() {
  requestAnimationFrame(() => loadAll(NEXT));
  const load = () => {
    clearTimeout(timer);
    for (const kind of FIRST_MOVES) document.removeEventListener(kind, load, true);
    loadAll([...SOON, ...Object.values(SOON_WITH_BUTTON)]);
  };
  const timer = setTimeout(load, SOON_AT_LATEST);
  for (const kind of FIRST_MOVES) document.addEventListener(kind, load, true);
}

async function signIn() {
  for (;;) {
    try {
      if (resetToken()) await (await import('./views/reset.js')).resetPage(resetToken());
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
  const [welcome, {signInPage}] = await Promise.all([get('/welcome'), import('./views/sign-in.js')]);
  if (!welcome.signed_in) await signInPage(welcome);
}

function explainAndWait(error) {
  find('#app').replaceChildren(fill('banner', {title: words.noLinkTitle, text: error.message}));
  return new Promise(resolve => setTimeout(resolve, RETRY));
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
