/** Offers the chat as an app, where the browser lets a page: only those do that trust the server. */
import {make} from '../core/dom.js';
import {listen, state} from '../core/state.js';
import {keepForDevice, keptForDevice} from '../core/store.js';
import {joiningWords as words} from '../text/joining-words.js';
import {toast} from '../views/toast.js';

/* A browser takes each offer once, and makes another one when it likes. */
let waiting = null;
let inSettings = false;

/* Nobody needs it to see and write, so it is not in the page from the start. */
document.head.append(make('link', {rel: 'manifest', href: '/manifest.webmanifest'}));

addEventListener('beforeinstallprompt', event => {
  event.preventDefault();
  waiting = event;
});
addEventListener('appinstalled', () => { waiting = null; });
document.addEventListener('visibilitychange', () => {
  if (waiting && !document.hidden && !keptForDevice('install-offered')) offer();
});
listen('show-settings', addToSettings);

/* The settings themselves are fetched when they are opened, not for an offer; where they cannot be, the page says so. */
async function addToSettings() {
  const settings = waiting && await import('../views/settings.js').catch(() => null);
  if (!settings || inSettings) return;
  inSettings = true;
  settings.addSettingsSection({name: 'install', icon: 'download', label: words.install, order: 120, run: install, may: () => Boolean(waiting)});
}

/* Once on a device, and to somebody who comes back: who has just come wants to read what the offer would cover. Later it stands in the settings. */
function offer() {
  keepForDevice('install-offered', true);
  toast(words.installOffer(state.settings.name), {name: 'download', action: {label: words.installNow, run: install}});
}

function install() {
  if (waiting) waiting.prompt();
  waiting = null;
}
