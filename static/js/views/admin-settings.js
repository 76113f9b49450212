/** The administration: every setting, in force as soon as it is changed. */
import {ApiError, get, patch} from '../core/api.js';
import {find, make} from '../core/dom.js';
import {adminWords as words} from '../text/admin-words.js';
import {words as pageWords} from '../text/words.js';
import {button, card, paragraph} from './admin-parts.js';
import {ask} from './dialog.js';
import {settingRow} from './setting-controls.js';
import {attempt, toast} from './toast.js';

/* What belongs together; a setting that stands in none comes last. */
const GROUPS = {
  place: ['name', 'channels'],
  joining: ['registration', 'password_min_length', 'max_login_attempts', 'lockout_duration_minutes', 'session_idle_minutes'],
  files: ['max_upload_size_mb', 'max_avatar_size_mb', 'link_preview_hosts'],
  keeping: ['message_retention_days', 'image_retention_days', 'file_retention_days', 'max_upload_dir_size_mb', 'max_message_db_size_mb'],
  backups: ['backup_dir', 'backup_hours'],
  network: ['host', 'port', 'stun_port', 'allowed_hosts', 'trusted_proxies', 'rate_limit_enabled', 'rate_limits', 'max_connections_per_address', 'mdns_name'],
  log: ['audit_log_max_size_mb', 'audit_log_max_age_days', 'audit_log_backups'],
};
/* Whose change may delete what is there; 0 keeps all. */
const DELETES = GROUPS.keeping;

/** Fills the part with the settings; what another administrator changes is shown once nothing is being written here. */
export function drawSettings(body) {
  fillSettings(body);
  return (topic, value) => topic === 'notice' && value.code === 'settings' && !body.contains(document.activeElement) && fillSettings(body);
}

async function fillSettings(body) {
  const answer = await attempt(() => get('/admin/settings'));
  if (!answer) return body.replaceChildren(paragraph(pageWords.noServer));
  const left = new Map(answer.settings.map(setting => [setting.name, setting]));
  const groups = Object.entries(GROUPS).map(([group, names]) => groupCard(words.groups[group], names.map(name => take(left, name)).filter(Boolean)));
  return body.replaceChildren(paragraph(words.settingsLead, 'lead'), ...groups, ...(left.size ? [groupCard(words.otherSettings, [...left.values()])] : []));
}

function take(map, name) {
  const value = map.get(name);
  map.delete(name);
  return value;
}

const groupCard = (title, settings) => card(title, settings.map(rowOf));

function rowOf(setting) {
  const kind = KINDS[kindOf(setting)];
  const control = kind.draw(setting);
  const input = control.matches('input') ? control : find('input, select, textarea', control);
  input.setAttribute('aria-label', setting.name);
  input.disabled = setting.locked;
  const row = settingRow(setting.name, hintOf(setting), [control, takeBackButton(setting)].filter(Boolean), {below: kind.below});
  row.append(make('small', {className: 'field-error', role: 'alert'}));
  row.dataset.setting = setting.name;
  input.addEventListener('change', () => change(row, setting, () => kind.read(input)));
  return row;
}

const hintOf = setting => [setting.help, setting.locked ? words.lockedSetting : '', Array.isArray(setting.value) ? words.listHint : ''].filter(Boolean).join(' ');

function takeBackButton(setting) {
  if (!setting.changed || setting.locked) return null;
  return button(words.takeBack, element => change(element.closest('.setting'), setting, () => null, words.takenBack), {
    look: 'ghost small', name: words.takeBackSetting(setting.name),
  });
}

/* The server has the last word on a value; what it refuses stays to be mended. */
async function change(row, setting, read, done = words.saved) {
  const error = find('.field-error', row);
  error.textContent = '';
  try {
    const value = read();
    if (!await mayDelete(setting, value)) return replace(row, setting);
    const {settings} = await patch('/admin/settings', {[setting.name]: value});
    replace(row, settings.find(one => one.name === setting.name));
    toast(done, {name: 'check'});
  } catch (problem) {
    if (!(problem instanceof ApiError)) throw problem;
    error.textContent = problem.status ? problem.message : pageWords.noServer;
  }
}

function replace(row, setting) {
  const focused = row.contains(document.activeElement);
  const next = rowOf(setting);
  row.replaceWith(next);
  if (focused) find('input, select, textarea', next).focus();
}

/* What keeps more, or all, deletes nothing. */
function mayDelete({name, value: before}, value) {
  if (!DELETES.includes(name) || !value || before && value >= before) return true;
  return ask(words.deletesQuestion, words.deletesText, words.deletesNow, {danger: true});
}

function kindOf({value, default: usual, choices}) {
  if (choices) return 'choice';
  const example = value === null ? usual : value;
  if (Array.isArray(example)) return 'list';
  return example === null ? 'string' : typeof example;
}

const refuse = text => { throw new ApiError(400, {error: text}); };

const KINDS = {
  choice: {
    draw: ({value, choices}) => make('span', {className: 'input select'}, make('select', {}, ...choices.map(choice => (
      make('option', {value: choice, selected: choice === value}, words.registrations[choice] || choice))))),
    read: input => input.value,
  },
  boolean: {
    draw: ({value}) => make('input', {type: 'checkbox', role: 'switch', className: 'switch', checked: value}),
    read: input => input.checked,
  },
  number: {
    draw: ({value}) => make('span', {className: 'input number'}, make('input', {type: 'text', inputMode: 'numeric', value: value === null ? '' : value})),
    read: input => /^\d+$/.test(input.value.trim()) ? Number(input.value) : refuse(words.notNumber),
  },
  string: {
    below: true,
    draw: ({value}) => make('span', {className: 'input grow'}, make('input', {type: 'text', value: value || ''})),
    read: input => input.value.trim() || null,
  },
  list: {
    below: true,
    draw: ({value}) => make('span', {className: 'input grow lines'}, make('textarea', {rows: Math.max(2, value.length + 1), value: value.join('\n')})),
    read: input => input.value.split('\n').map(line => line.trim()).filter(Boolean),
  },
  object: {
    below: true,
    draw: ({value}) => make('span', {className: 'input grow lines'}, make('textarea', {rows: 2, className: 'mono', value: JSON.stringify(value)})),
    read: input => readObject(input.value),
  },
};

function readObject(text) {
  try {
    return JSON.parse(text || '{}');
  } catch (error) {
    return refuse(words.notJson);
  }
}
