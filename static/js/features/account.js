/** One's own menu: what one is up to, whether one may be disturbed, profile, settings, signing out. */
import {put} from '../core/api.js';
import {find} from '../core/dom.js';
import {apply, isAdmin, isHeard, state, tell} from '../core/state.js';
import {joiningWords} from '../text/joining-words.js';
import {keysWords} from '../text/keys-words.js';
import {profileWords} from '../text/profile-words.js';
import {words} from '../text/words.js';
import {statusOf, untilInWords} from '../views/avatar.js';
import {signOut} from '../views/leaving.js';
import {openMenu} from '../views/menu.js';
import {showShortcuts} from '../views/shortcuts.js';
import {endAfter, openStatusForm, saveStatus} from '../views/status-form.js';
import {attempt} from '../views/toast.js';

document.addEventListener('click', event => {
  if (event.target.closest('#profile')) openOwnMenu();
});

function openOwnMenu() {
  openMenu(find('#profile'), words.profile, [
    ...statusItems(),
    'rule',
    ...presenceItems(),
    'rule',
    {icon: 'user', label: words.ownProfile, run: () => tell('show-settings', 'profile')},
    ...(state.me.role === 'guest' ? [] : [{icon: 'userplus', label: joiningWords.invite, run: () => tell('show-settings', 'invite')}]),
    {icon: 'gear', label: words.settings, run: () => tell('show-settings')},
    ...(isAdmin() && isHeard('go-admin') ? [{icon: 'shield', label: profileWords.admin, run: () => tell('go-admin')}] : []),
    {icon: 'list', label: keysWords.shortcuts, key: '?', run: showShortcuts},
    'rule',
    {icon: 'logout', label: words.signOut, run: signOut},
  ]);
}

function statusItems() {
  const status = statusOf(state.me);
  if (!status) return [{icon: 'smile', label: profileWords.setStatus, run: openStatusForm}];
  const text = [status.emoji, untilInWords(status.text, status.until)].join(' ').trim();
  return [{icon: 'smile', label: text, run: openStatusForm}, {icon: 'x', label: profileWords.clearStatus, run: () => attempt(() => saveStatus(null))}];
}

function presenceItems() {
  const {presence, presence_until: until = null} = state.users.get(state.me.id) || state.me;
  const undisturbed = presence === 'dnd';
  return [
    {icon: 'bell', label: profileWords.presence.active, checked: !undisturbed, run: () => choosePresence('active')},
    {
      icon: 'belloff', label: undisturbed ? untilInWords(profileWords.doNotDisturb, until) : profileWords.doNotDisturb,
      checked: undisturbed, run: chooseEnd,
    },
  ];
}

function chooseEnd() {
  const ends = Object.entries(profileWords.doNotDisturbFor);
  openMenu(find('#profile'), profileWords.doNotDisturb, ends.map(([end, label]) => (
    {icon: end === 'never' ? 'belloff' : 'clock', label, run: () => choosePresence('dnd', endAfter(end))})));
}

async function choosePresence(presence, until = null) {
  await attempt(async () => {
    await put('/me/presence', {state: presence, until});
    apply({kind: 'presence', value: {user_id: state.me.id, state: presence, until}});
  });
}
