/** One's own menu: theme, settings, password, signing out. */
import {ApiError, post} from '../core/api.js';
import {make} from '../core/dom.js';
import {holdFeed} from '../core/feed.js';
import {outboxSize} from '../core/outbox.js';
import {choosePreference, preference} from '../core/preferences.js';
import {state, tell} from '../core/state.js';
import {broadcast, wipe} from '../core/store.js';
import {words} from '../text/words.js';
import {ask, field, openForm} from '../views/dialog.js';
import {choices, openMenu} from '../views/menu.js';
import {toast} from '../views/toast.js';

document.addEventListener('click', event => {
  const button = event.target.closest('#profile');
  if (button) openMenu(button, words.profile, menuItems());
});

function menuItems() {
  return [
    choices(words.theme, words.themes, preference('theme', 'auto'), chooseTheme),
    'rule',
    {icon: 'gear', label: words.settings, run: () => tell('show-settings')},
    {icon: 'key', label: words.changePassword, run: changePassword},
    {icon: 'logout', label: words.signOut, run: signOut},
  ];
}

const chooseTheme = theme => choosePreference('theme', theme === 'auto' ? null : theme);

function changePassword() {
  const shortest = state.settings.password_min_length;
  openForm(words.changePassword, [
    make('input', {name: 'username', value: state.me.username, autocomplete: 'username', hidden: true, readOnly: true}),
    field('current', words.currentPassword, {type: 'password', autocomplete: 'current-password'}),
    field('new', words.newPassword, {type: 'password', autocomplete: 'new-password', hint: words.passwordHint(shortest)}),
  ], words.save, savePassword);
}

async function savePassword(values) {
  const shortest = state.settings.password_min_length;
  if ([...values.new].length < shortest) throw new ApiError(400, {error: words.passwordShort(shortest), field: 'new'});
  try {
    await post('/password', {current: values.current, new: values.new});
  } catch (error) {
    const wrong = error instanceof ApiError && [401, 403].includes(error.status) && !error.field;
    throw wrong ? new ApiError(400, {error: error.message || words.wrongPassword, field: 'current'}) : error;
  }
  toast(words.passwordChanged, {name: 'key'});
}

/* The server must hear it first: with no link the session would live on behind an empty page. */
async function signOut() {
  const waiting = outboxSize();
  if (waiting && !await ask(words.signOutQuestion, words.signOutWaiting(waiting), words.signOut, {danger: true})) return;
  holdFeed(true);
  try {
    await post('/logout');
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status !== 401) return goOn(error);
  }
  await wipe();
  broadcast('goodbye');
  location.assign('/');
}

function goOn(error) {
  holdFeed(false);
  toast(error.message || words.noServer, {name: 'warn'});
}
