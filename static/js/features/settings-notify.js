/** Settings: notifications on this device, sounds, keywords, channels that are heard differently, quiet hours. */
import {QUIET_HOURS} from '../core/attention.js';
import {icon, isTouch, make} from '../core/dom.js';
import {choosePreference, preference} from '../core/preferences.js';
import {channelName, state} from '../core/state.js';
import {weekdays} from '../text/measures.js';
import {notifyWords as words} from '../text/notify-words.js';
import {words as pageWords} from '../text/words.js';
import {notificationState, turnOffNotifications, turnOnNotifications} from '../views/alerts.js';
import {changeMembership} from '../views/channel.js';
import {bindPreference, segmentRow, settingRow, sliderRow, switchRow} from '../views/setting-controls.js';
import {addSettingsSection} from '../views/settings.js';
import {NORMAL_VOLUME, playSound} from '../views/sounds.js';

const STATE_ICONS = {on: 'bell', ask: 'bell', off: 'belloff', denied: 'belloff'};

addSettingsSection({
  name: 'notifications', icon: 'bell', label: words.notifications, order: 30,
  draw: body => body.append(
    notificationBlock(), switchRow('notification_text', words.text, words.textHint, true),
    heading(words.sounds), ...soundRows(),
    heading(words.what), keywordsRow(), ...levelRows(),
    heading(words.quiet), switchOfQuiet(), quietTimes(), quietDays(),
  ),
});

const heading = text => make('h3', {}, text);

/* -- notifications on this device */

function notificationBlock() {
  const block = make('div', {className: 'notification-state', role: 'status'});
  drawState(block);
  watchPermission(block);
  return block;
}

function drawState(block) {
  const now = notificationState();
  const {title, text, button, link} = words.states[now];
  block.dataset.state = now;
  block.replaceChildren(icon(STATE_ICONS[now] || 'info', 20), make('p', {className: 'grow'}, make('b', {}, title), make('small', {}, text)));
  if (link) block.append(make('a', {className: 'button small secondary', href: '/trust', target: '_blank', rel: 'noopener'}, link));
  if (button) block.append(notificationButton(block, now, button));
}

function notificationButton(block, now, text) {
  const button = make('button', {type: 'button', className: `button small ${now === 'on' ? 'secondary' : 'primary'}`}, text);
  button.addEventListener('click', async () => {
    if (now === 'on') turnOffNotifications();
    else await turnOnNotifications();
    drawState(block);
  });
  return button;
}

/* What is undone in the browser's own settings shows here at once. */
async function watchPermission(block) {
  if (!navigator.permissions) return;
  const permission = await navigator.permissions.query({name: 'notifications'});
  permission.addEventListener('change', () => drawState(block));
}

/* -- sounds */

function soundRows() {
  const rows = [
    switchRow('sound', words.sound, words.soundHint, true),
    heard(segmentRow('sound_voice', words.voice, '', words.voices, 'bell')),
    heard(sliderRow('sound_volume', words.volume, '', {min: 0, max: 100, step: 5, fallback: NORMAL_VOLUME, sayValue: words.percent})),
    settingRow(words.test, '', make('span', {className: 'button-row'}, ...Object.entries(words.tests).map(testButton))),
  ];
  if (navigator.vibrate && isTouch()) rows.push(switchRow('vibrate', words.vibrate, '', true));
  return rows;
}

/* What was just chosen is heard at once. */
function heard(row) {
  row.addEventListener('change', () => playSound('message'));
  return row;
}

function testButton([name, text]) {
  const button = make('button', {type: 'button', className: 'button small secondary', value: name}, text);
  button.addEventListener('click', () => playSound(name));
  return button;
}

/* -- what is for the reader */

function keywordsRow() {
  const input = make('input', {type: 'text', 'aria-label': words.keywords, placeholder: words.keywordsExample, maxLength: 500, autocomplete: 'off'});
  input.addEventListener('change', () => choosePreference('keywords', input.value.trim()));
  bindPreference(input, 'keywords', '', value => { input.value = value; });
  return settingRow(words.keywords, words.keywordsHint, make('span', {className: 'input grow'}, input), {below: true});
}

function levelRows() {
  const unusual = [...state.channels.values()].filter(channel => channel.joined && channel.notify !== 'all');
  const lead = make('p', {className: 'lead'}, unusual.length ? words.levelsLead : words.levelsUsual);
  return [lead, ...unusual.map(levelRow)];
}

function levelRow(channel) {
  const name = `${channel.kind === 'direct' ? '' : '#'}${channelName(channel)}`;
  const choices = Object.entries(pageWords.notifyLevels).map(([value, text]) => make('option', {value, selected: value === channel.notify}, text));
  const select = make('select', {'aria-label': words.levelOf(name)}, ...choices);
  select.addEventListener('change', () => changeMembership(channel, {notify: select.value}));
  return settingRow(name, '', make('span', {className: 'input select'}, select));
}

/* -- quiet hours */

const quietHours = () => ({...QUIET_HOURS, ...preference('quiet_hours', {})});
const changeQuiet = change => choosePreference('quiet_hours', {...quietHours(), ...change});

function switchOfQuiet() {
  const input = make('input', {type: 'checkbox', role: 'switch', className: 'switch', 'aria-label': words.quietOn});
  input.addEventListener('change', () => changeQuiet({on: input.checked}));
  bindPreference(input, 'quiet_hours', null, () => { input.checked = quietHours().on; });
  return settingRow(words.quietOn, words.quietHint, input);
}

function quietTimes() {
  return settingRow(words.quietTimes, '', make('span', {className: 'button-row'},
    timeInput('start', words.quietStart), make('span', {'aria-hidden': 'true'}, '–'), timeInput('end', words.quietEnd)));
}

function timeInput(end, label) {
  const input = make('input', {type: 'time', required: true, 'aria-label': label});
  input.addEventListener('change', () => input.value && changeQuiet({[end]: input.value}));
  bindPreference(input, 'quiet_hours', null, () => { input.value = quietHours()[end]; });
  return make('span', {className: 'input select'}, input);
}

function quietDays() {
  const boxes = weekdays().map(({day, name}) => make('label', {},
    make('input', {type: 'checkbox', value: day}), make('span', {}, name)));
  const group = make('div', {className: 'segment days', role: 'group', 'aria-label': words.quietDays}, ...boxes);
  const inputs = [...group.querySelectorAll('input')];
  group.addEventListener('change', () => changeQuiet({days: inputs.filter(input => input.checked).map(input => Number(input.value))}));
  bindPreference(group, 'quiet_hours', null, () => {
    for (const input of inputs) input.checked = quietHours().days.includes(Number(input.value));
  });
  return settingRow(words.quietDays, words.quietDaysHint, group);
}
