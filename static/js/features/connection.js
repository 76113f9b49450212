/** Says when the link is lost, when the session ended, and when the server runs a newer version. */
import {ApiError} from '../core/api.js';
import {resumeFeed, tryNow} from '../core/feed.js';
import {find} from '../core/dom.js';
import {flush} from '../core/outbox.js';
import {listen, state, tell} from '../core/state.js';
import {broadcast, hear} from '../core/store.js';
import {words} from '../text/words.js';
import {banner, toast} from '../views/toast.js';

let ticking = 0;
let wasLost = false;
let asking = false;
let userId = null;

listen('link', link => {
  clearInterval(ticking);
  if (link.status === 'on') return showBack();
  if (link.status === 'slow') return banner('connection-banner', null);
  wasLost = true;
  showLost(link);
  if (link.retryAt) ticking = setInterval(showLost, 1000, link);
});

function showBack() {
  banner('connection-banner', null);
  if (wasLost) toast(words.backOnLan, {name: 'plug'});
  wasLost = false;
}

function showLost({retryAt}) {
  const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  banner('connection-banner', {
    kind: 'lost', icon: 'unplug', title: words.noLinkTitle, text: words.noLinkText, label: words.tryNow, run: tryNow,
    countdown: retryAt ? words.nextTry(seconds) : words.connecting,
  });
}

/* A folder static/ of another version than the server: asking it for what it does not know gives strange errors. */
listen('snapshot', async () => {
  const {version} = state.server;
  const own = find('meta[name="version"]').content;
  if (own === version) return;
  const {joiningWords} = await import('../text/joining-words.js');
  banner('mismatch-banner', {
    kind: 'lost', icon: 'warn', title: joiningWords.mismatchTitle, text: joiningWords.mismatch(own, version), label: words.reload, run: () => location.reload(),
  });
});

listen('new-version', () => banner('version-banner', {
  kind: 'info', icon: 'info', title: words.newVersionTitle, text: words.newVersionText, label: words.reload, run: () => location.reload(),
}));

/* In development the page changes under one's hands; drafts and the outbox are kept. */
const NOTICES = {
  reload: () => location.reload(),
  settings: ({settings}) => {
    Object.assign(state.settings, settings);
    tell('settings');
  },
  started: ({build}) => build === state.server.build || tell('new-version'),
  waiting: ({username}) => toast(words.waitsForApproval(username), {name: 'info'}),
  reset_link: () => toast(words.resetLinkMade, {name: 'info'}),
};

listen('notice', notice => (NOTICES[notice.code] || (() => {}))(notice));

/* The page and what is being written stay; only who is asking must be settled. */
listen('signed-out', async () => {
  if (asking || !state.me) return;
  asking = true;
  const {signInOverlay} = await import('../views/sign-in.js');
  const user = await signInOverlay(state.me.username);
  broadcast('signed-in');
  await goOn(user);
});

listen('signed-in', async () => {
  const overlay = find('dialog.sign-in-again');
  if (overlay) overlay.close();
  await goOn(null);
});

/* Another person must find nothing of the one before. */
listen('snapshot', () => {
  if (userId && userId !== state.me.id) location.reload();
  userId = state.me.id;
});

async function goOn(user) {
  asking = false;
  if (user && user.id !== userId) return location.reload();
  try {
    await resumeFeed();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
  flush();
}

hear('goodbye', () => location.reload());
