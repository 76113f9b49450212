/** Finding, joining and making channels. */
import {ApiError, get, post} from '../core/api.js';
import {fill, icon, make} from '../core/dom.js';
import {addressOf, apply, goTo, isAdmin, mayCreateChannels, state} from '../core/state.js';
import {channelWords} from '../text/channel-words.js';
import {fitting} from '../text/fuzzy.js';
import {words} from '../text/words.js';
import {joinChannel} from '../views/channel.js';
import {field, openDialog, radios} from '../views/dialog.js';
import {submitted} from '../views/form.js';
import {everybodyBut, peoplePicker} from '../views/people.js';
import {attempt} from '../views/toast.js';

document.addEventListener('click', event => {
  if (event.target.closest('#add-channel')) openAdding(showBrowse);
  if (event.target.closest('#add-private')) openAdding(showCreatePrivate);
  if (event.target.closest('#join-channel')) joinChannel(state.channelId);
});

function openAdding(showFirst) {
  const body = make('div', {className: 'stack'});
  const dialog = openDialog(words.addChannel, body, {className: 'wide'});
  if (mayCreateChannels()) body.append(tabs(body));
  else body.append(make('div'));
  showFirst(body, dialog);
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
  showView(body, 'browse', make('div', {className: 'stack'}, make('span', {className: 'input'}, icon('search', 17), filter), list));
  filter.focus();
  const answer = await attempt(() => get('/channels'));
  if (!answer) return dialog.close();
  const channels = answer.channels.filter(channel => channel.kind === 'public');
  const draw = () => drawList(list, channels, filter.value, dialog);
  filter.addEventListener('input', draw);
  draw();
}

function drawList(list, channels, wanted, dialog) {
  channels.sort((one, other) => Number(one.joined) - Number(other.joined) || one.name.localeCompare(other.name));
  const found = fitting(wanted, channels, channel => `${channel.name} ${channel.topic}`);
  const archived = found.filter(channel => channel.archived);
  const title = archived.length ? [make('h3', {className: 'people-head'}, channelWords.archived)] : [];
  list.replaceChildren(...found.filter(channel => !channel.archived).map(channel => drawEntry(channel, dialog)),
    ...title, ...archived.map(channel => drawEntry(channel, dialog)));
  if (!found.length) list.append(make('p', {className: 'muted'}, words.noChannelsFound));
}

function drawEntry(channel, dialog) {
  const mayJoin = !channel.joined && !channel.archived;
  const button = make('button', {type: 'button', className: `button small ${mayJoin ? 'primary' : 'secondary'}`}, mayJoin ? words.join : words.open);
  const entry = fill('browse', {icon: icon(channel.archived ? 'lock' : 'hash', 17), name: channel.name, about: aboutChannel(channel), action: button});
  button.addEventListener('click', async () => {
    if (mayJoin && !await joinChannel(channel.id)) return;
    dialog.close();
    goTo(addressOf(channel.id));
  });
  return entry;
}

function aboutChannel(channel) {
  const mark = channel.joined ? make('span', {className: 'joined-mark'}, icon('check', 13), channelWords.joined, ' · ') : '';
  const admins = channel.posting === 'admins' && channelWords.adminsWrite;
  return [mark, [words.members(channel.member_count), admins, channel.topic].filter(Boolean).join(' · ')];
}

const showCreatePrivate = (body, dialog) => showCreate(body, dialog, 'private');

function showCreate(body, dialog, kind = 'public') {
  const picker = peoplePicker(everybodyBut([state.me.id]));
  const form = fill('form', {fields: createFields(kind, picker), submit: words.createChannel});
  form.id = 'create-channel';
  showView(body, 'create', form);
  form.elements.name.focus();
  form.elements.cancel.addEventListener('click', () => dialog.close());
  form.addEventListener('submit', async event => {
    event.preventDefault();
    if (await submitted(form, values => create(values, picker.chosen()))) dialog.close();
  });
}

function createFields(kind, picker) {
  const people = make('fieldset', {className: 'choices'}, make('legend', {}, words.peopleAtOnce), picker.element);
  return [
    field('name', words.name, {hint: words.nameHint, maxLength: 80, autocomplete: 'off', autocapitalize: 'none'}),
    field('topic', words.topic, {hint: words.topicHint, maxLength: 250, autocomplete: 'off'}),
    radios('kind', words.kind, words.kinds, kind),
    isAdmin() ? radios('posting', channelWords.whoWrites, channelWords.writers, 'all') : null,
    people,
  ].filter(Boolean);
}

async function create({name, topic, kind, posting = 'all'}, members) {
  if (!name.trim()) throw new ApiError(400, {error: words.nameMissing, field: 'name'});
  const {channel} = await post('/channels', {name: name.trim(), kind, posting, members, topic: topic.trim()});
  apply({kind: 'channel', value: {...channel, joined: true}});
  goTo(addressOf(channel.id));
}
