/** Finding, joining and making channels. */
import {ApiError, get, post} from '../core/api.js';
import {fill, icon, make} from '../core/dom.js';
import {addressOf, apply, state} from '../core/state.js';
import {words} from '../text/words.js';
import {field, openDialog, submitted, toast} from '../views/dialog.js';

document.addEventListener('click', event => event.target.closest('#add-channel') && openAdding());

/** Join from the notice under a channel one only reads. */
document.addEventListener('click', async event => {
  if (event.target.closest('#join-channel')) await attempt(() => join(state.channelId));
});

async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message || words.noServer, {name: 'warn'});
    return null;
  }
}

async function join(channelId) {
  const {channel} = await post(`/channels/${channelId}/members`, {users: [state.me.id]});
  apply({kind: 'channel', value: {...channel, joined: true}});
}

async function openAdding() {
  const body = make('div', {className: 'stack'});
  const dialog = openDialog(words.addChannel, body, {className: 'wide'});
  body.append(tabs(body));
  showBrowse(body, dialog);
}

const VIEWS = {browse: showBrowse, create: showCreate};

function tabs(body) {
  const row = make('div', {className: 'tabs', role: 'tablist'});
  for (const name of Object.keys(VIEWS)) {
    const tab = make('button', {type: 'button', role: 'tab', name, 'aria-selected': 'false'}, words[name]);
    tab.addEventListener('click', () => VIEWS[name](body, tab.closest('dialog')));
    row.append(tab);
  }
  return row;
}

function showView(body, name, content) {
  for (const tab of body.querySelectorAll('[role="tab"]')) tab.setAttribute('aria-selected', String(tab.name === name));
  while (body.childElementCount > 1) body.lastElementChild.remove();
  body.append(content);
}

async function showBrowse(body, dialog) {
  const list = make('div', {className: 'browse-list'}, make('p', {className: 'muted'}, words.loading));
  const filter = make('input', {type: 'search', placeholder: words.filterChannels, 'aria-label': words.filterChannels});
  showView(body, 'browse', make('div', {className: 'stack'}, make('span', {className: 'input'}, filter), list));
  filter.focus();
  const answer = await attempt(() => get('/channels'));
  if (!answer) return dialog.close();
  const channels = answer.channels.filter(channel => channel.kind === 'public' && !(channel.archived && !channel.joined));
  const draw = () => drawList(list, channels, filter.value.trim().toLowerCase(), dialog);
  filter.addEventListener('input', draw);
  draw();
}

function drawList(list, channels, wanted, dialog) {
  const found = channels.filter(channel => `${channel.name} ${channel.topic}`.toLowerCase().includes(wanted));
  found.sort((one, other) => Number(one.joined) - Number(other.joined) || one.name.localeCompare(other.name));
  list.replaceChildren(...found.map(channel => drawEntry(channel, dialog)));
  if (!found.length) list.append(make('p', {className: 'muted'}, words.noChannelsFound));
}

function drawEntry(channel, dialog) {
  const about = [words.members(channel.member_count), channel.topic].filter(Boolean).join(' · ');
  const button = make('button', {type: 'button', className: `button small ${channel.joined ? 'secondary' : 'primary'}`}, channel.joined ? words.open : words.join);
  const entry = fill('browse', {icon: icon('hash', 17), name: channel.name, about, action: button});
  button.addEventListener('click', async () => {
    if (!channel.joined && !await attempt(async () => { await join(channel.id); return true; })) return;
    dialog.close();
    location.hash = addressOf(channel.id);
  });
  return entry;
}

function showCreate(body, dialog) {
  const form = fill('form', {fields: createFields(), submit: words.createChannel});
  form.id = 'create-channel';
  showView(body, 'create', form);
  form.elements.name.focus();
  form.elements.cancel.addEventListener('click', () => dialog.close());
  form.addEventListener('submit', async event => {
    event.preventDefault();
    if (await submitted(form, create)) dialog.close();
  });
}

function createFields() {
  const kinds = make('fieldset', {className: 'choices'}, make('legend', {}, words.kind),
    kindChoice('public', words.kindPublic, true), kindChoice('private', words.kindPrivate, false));
  return [
    field('name', words.name, {hint: words.nameHint, maxLength: 80, autocomplete: 'off', autocapitalize: 'none'}),
    field('topic', words.topic, {hint: words.topicHint, maxLength: 250, autocomplete: 'off'}),
    kinds,
  ];
}

function kindChoice(value, text, checked) {
  return make('label', {}, make('input', {type: 'radio', name: 'kind', value, checked}), make('span', {}, text));
}

async function create({name, topic, kind}) {
  if (!name.trim()) throw new ApiError(400, {error: words.nameMissing, field: 'name'});
  const {channel} = await post('/channels', {name: name.trim(), kind, ...(topic.trim() ? {topic: topic.trim()} : {})});
  apply({kind: 'channel', value: {...channel, joined: true}});
  location.hash = addressOf(channel.id);
}
