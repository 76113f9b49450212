/** Lists of people: a row each, in order of presence, and a list to choose from. */
import {post} from '../core/api.js';
import {fill, find, icon, isComposing, label, make, slot} from '../core/dom.js';
import {addressOf, apply, goTo, state} from '../core/state.js';
import {fitting} from '../text/fuzzy.js';
import {words} from '../text/words.js';
import {avatar, statusMark} from './avatar.js';
import {attempt} from './toast.js';

const MOST_SHOWN = 100;
const ORDER = ['active', 'dnd', 'idle', 'offline'];

const presenceOf = user => user.presence || 'offline';
const nameOf = user => user.display_name || user.username;
const textOf = user => `${nameOf(user)} ${user.username} ${user.title || ''}`;

/** The users of these ids who are known, those here first, then by name. */
export function peopleOf(ids) {
  const rank = user => ORDER.indexOf(presenceOf(user));
  return ids.map(id => state.users.get(id)).filter(Boolean)
    .sort((one, other) => rank(one) - rank(other) || nameOf(one).localeCompare(nameOf(other)));
}

/** Everybody whose account is open, but those of `without`. */
export function everybodyBut(without) {
  const left = new Set(without);
  return peopleOf([...state.users.keys()].filter(id => !left.has(id) && state.users.get(id).active !== false));
}

/** Those of `people` whom a few letters of name or title mean. */
export const findPeople = (query, people) => fitting(query, people, textOf);

/** One person as a button: picture, name, title, presence in words; `end` stands at the right. */
export function personRow(user, end = null) {
  const about = [user.title, words.presence[presenceOf(user)]].filter(Boolean).join(' · ');
  const you = user.id === state.me.id ? make('span', {className: 'you'}, ` ${words.you}`) : null;
  const row = fill('person', {avatar: avatar(user, 32, {presence: true}), name: [nameOf(user), you].filter(Boolean), about, end});
  const status = statusMark(user);
  if (status) slot(row, 'name').append(' ', status);
  row.dataset.userId = user.id;
  return row;
}

/** A tag for those who are more, or less, than a member. */
export function roleTag(user) {
  return user.role === 'member' ? null : make('span', {className: `tag ${user.role}`}, words.roles[user.role]);
}

/**
 * A field and a list to choose people from. Gives {element, chosen()}; `most` bounds how many.
 * Arrows move, Enter takes the one marked, Backspace in the empty field gives the last back.
 */
export function peoplePicker(people, {most = Infinity, onChange = () => {}} = {}) {
  const picker = fill('people-picker');
  const parts = {field: find('input', picker), list: find('.people', picker), chips: find('.chips', picker)};
  const pick = {...parts, people, most, onChange, chosen: new Map(), shown: [], at: 0};
  pick.field.addEventListener('input', () => { pick.at = 0; drawPicker(pick); });
  pick.field.addEventListener('keydown', event => onPickerKey(event, pick));
  pick.list.addEventListener('click', event => {
    const row = event.target.closest('.person');
    if (row) toggle(pick, state.users.get(Number(row.dataset.userId)));
  });
  drawPicker(pick);
  return {element: picker, chosen: () => [...pick.chosen.keys()]};
}

function drawPicker(pick) {
  pick.shown = findPeople(pick.field.value, pick.people).slice(0, MOST_SHOWN);
  pick.at = Math.min(pick.at, Math.max(0, pick.shown.length - 1));
  pick.list.replaceChildren(...pick.shown.map((user, index) => pickerRow(pick, user, index)));
  if (!pick.shown.length) pick.list.append(make('p', {className: 'muted'}, words.nobodyFits));
  pick.chips.replaceChildren(...[...pick.chosen.values()].map(user => chip(pick, user)));
  const marked = pick.list.children[pick.at];
  if (marked) pick.field.setAttribute('aria-activedescendant', marked.id);
}

function pickerRow(pick, user, index) {
  const row = personRow(user, pick.chosen.has(user.id) ? icon('check', 18) : null);
  row.id = `choice-${user.id}`;
  row.tabIndex = -1;
  row.setAttribute('role', 'option');
  row.setAttribute('aria-selected', String(pick.chosen.has(user.id)));
  row.classList.toggle('at', index === pick.at);
  return row;
}

function chip(pick, user) {
  const button = make('button', {type: 'button', className: 'chip'}, nameOf(user), icon('x', 13));
  label(button, words.removePerson(nameOf(user)));
  button.addEventListener('click', () => toggle(pick, user));
  return button;
}

function toggle(pick, user) {
  if (pick.chosen.has(user.id)) pick.chosen.delete(user.id);
  else if (pick.chosen.size < pick.most) pick.chosen.set(user.id, user);
  pick.field.value = '';
  pick.at = Math.max(0, findPeople('', pick.people).indexOf(user));
  drawPicker(pick);
  pick.field.focus();
  pick.onChange(pick.chosen.size);
}

const PICKER_KEYS = {
  ArrowDown: pick => move(pick, 1),
  ArrowUp: pick => move(pick, -1),
  Enter: pick => pick.shown[pick.at] && toggle(pick, pick.shown[pick.at]),
};

function onPickerKey(event, pick) {
  if (isComposing(event) || event.ctrlKey || event.metaKey) return;
  const last = [...pick.chosen.values()].pop();
  if (event.key === 'Backspace' && !pick.field.value && last) return toggle(pick, last);
  if (!PICKER_KEYS[event.key]) return;
  event.preventDefault();
  PICKER_KEYS[event.key](pick);
}

function move(pick, step) {
  pick.at = (pick.at + step + pick.shown.length) % Math.max(1, pick.shown.length);
  drawPicker(pick);
  const marked = pick.list.children[pick.at];
  if (marked) marked.scrollIntoView({block: 'nearest'});
}

/** Opens the direct channel with these people. */
export function startDirect(userIds) {
  return attempt(async () => {
    const {channel} = await post('/direct', {users: userIds});
    apply({kind: 'channel', value: {...channel, joined: true, hidden: false}});
    goTo(addressOf(channel.id));
    return channel;
  });
}

