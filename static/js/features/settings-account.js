/** Settings: password, signed-in devices, signing out, deleting the account. */
import {ApiError, get, post, remove, request} from '../core/api.js';
import {find, make} from '../core/dom.js';
import {localTime, state} from '../core/state.js';
import {accountWords} from '../text/account-words.js';
import {shortDay} from '../text/measures.js';
import {words} from '../text/words.js';
import {ask, field, radios} from '../views/dialog.js';
import {stayingForm} from '../views/form.js';
import {leaveBy, signOut} from '../views/leaving.js';
import {settingRow} from '../views/setting-controls.js';
import {addSettingsSection} from '../views/settings.js';
import {attempt, toast} from '../views/toast.js';

/* A device that did something within so many seconds is in use. */
const NOW = 90;

addSettingsSection({name: 'password', icon: 'key', label: accountWords.password, order: 80, draw: drawPassword});
addSettingsSection({name: 'devices', icon: 'screen', label: accountWords.devices, order: 85, draw: drawDevices});
addSettingsSection({name: 'delete-account', icon: 'trash', label: accountWords.deleteAccount, order: 90, draw: drawDeletion});
addSettingsSection({name: 'sign-out', icon: 'logout', label: words.signOut, order: 200, run: signOut});

const lead = text => make('p', {className: 'lead'}, text);

/* Password managers want to know whose password it is. */
const usernameField = () => make('input', {name: 'username', value: state.me.username, autocomplete: 'username', hidden: true, readOnly: true});

function drawPassword(body) {
  const hint = words.passwordHint(state.settings.password_min_length);
  const form = stayingForm([
    usernameField(),
    field('current', accountWords.currentPassword, {type: 'password', autocomplete: 'current-password'}),
    field('new', accountWords.newPassword, {type: 'password', autocomplete: 'new-password', hint}),
  ], accountWords.changePassword, async values => {
    await savePassword(values);
    form.reset();
  });
  body.append(lead(accountWords.passwordLead), form);
}

async function savePassword(values) {
  const shortest = state.settings.password_min_length;
  if ([...values.new].length < shortest) throw new ApiError(400, {error: words.passwordShort(shortest), field: 'new'});
  await post('/password', {current: values.current, new: values.new});
  toast(accountWords.passwordChanged, {name: 'key'});
}

async function drawDevices(body) {
  const answer = await attempt(() => get('/me/sessions'));
  if (!answer) return body.replaceChildren(lead(words.noServer));
  const others = answer.sessions.filter(session => !session.current);
  const rows = [...answer.sessions.filter(session => session.current), ...others].map(session => deviceRow(session, body));
  return body.replaceChildren(lead(accountWords.devicesLead), ...rows, ...(others.length > 1 ? [endOthersButton(others.length, body)] : []));
}

function deviceRow(session, body) {
  const used = session.idle_seconds < NOW || session.current ? accountWords.activeNow : accountWords.activeBefore(session.idle_seconds);
  const since = accountWords.signedInOn(shortDay(localTime(session.created_at)));
  const end = session.current ? make('span', {className: 'tag'}, accountWords.thisDevice) : endButton(session, body);
  const row = settingRow(deviceName(session.agent), accountWords.aboutDevice(session.address, used, since), end);
  row.title = session.agent;
  return row;
}

function endButton(session, body) {
  const name = deviceName(session.agent);
  const button = make('button', {type: 'button', className: 'button small secondary'}, accountWords.endSession);
  button.setAttribute('aria-label', accountWords.endSessionOf(name));
  button.addEventListener('click', async () => {
    if (!await ask(accountWords.endSessionQuestion(name), accountWords.endSessionExplained, accountWords.endSession, {danger: true})) return;
    await endSessions(`/me/sessions/${session.id}`, accountWords.sessionEnded(name), body);
  });
  return button;
}

function endOthersButton(count, body) {
  const button = make('button', {type: 'button', className: 'button secondary'}, accountWords.endOthers);
  button.addEventListener('click', async () => {
    if (!await ask(accountWords.endOthersQuestion(count), accountWords.endSessionExplained, accountWords.endOthers, {danger: true})) return;
    await endSessions('/me/sessions', accountWords.othersEnded, body);
  });
  return make('div', {className: 'form-buttons'}, button);
}

async function endSessions(path, done, body) {
  await attempt(async () => {
    await remove(path);
    toast(done, {name: 'logout'});
  });
  await drawDevices(body);
}

function deviceName(agent) {
  const named = names => (names.find(([pattern]) => pattern.test(agent)) || [])[1];
  return accountWords.device(named(accountWords.browsers) || accountWords.unknownDevice, named(accountWords.systems));
}

function drawDeletion(body) {
  const form = stayingForm([
    usernameField(),
    radios('messages', accountWords.ownMessages, accountWords.messagesLater, 'keep'),
    field('password', accountWords.passwordAgain, {type: 'password', autocomplete: 'current-password'}),
  ], accountWords.deleteAccount, deleteAccount);
  find('.button.primary', form).className = 'button danger';
  body.append(lead(accountWords.deleteLead), form);
}

async function deleteAccount({password, messages}) {
  if (!password) throw new ApiError(400, {error: words.passwordMissing, field: 'password'});
  const {display_name: name, username} = state.me;
  const text = accountWords.deleteExplained[messages];
  if (!await ask(accountWords.deleteQuestion(name || username), text, accountWords.deleteAccount, {danger: true})) return;
  await leaveBy(() => request('DELETE', '/me', {password, messages}));
}
