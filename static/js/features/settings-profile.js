/** Settings: one's profile, the picture above it. */
import {ApiError, patch, remove, request} from '../core/api.js';
import {find, make} from '../core/dom.js';
import {apply, listen, state} from '../core/state.js';
import {accountWords} from '../text/account-words.js';
import {words} from '../text/words.js';
import {avatar, HUES} from '../views/avatar.js';
import {cropPicture} from '../views/crop.js';
import {field} from '../views/dialog.js';
import {stayingForm} from '../views/form.js';
import {addSettingsSection} from '../views/settings.js';
import {attempt, toast} from '../views/toast.js';

const AVATAR = 96;
const LONGEST = {display_name: 60, title: 60, bio: 500};

addSettingsSection({name: 'profile', icon: 'user', label: accountWords.profile, order: 10, draw: drawProfile});

listen('user', user => {
  const block = find('.own-picture');
  if (block && user.id === state.me.id) drawPicture(block);
});

function drawProfile(body) {
  const block = make('div', {className: 'own-picture'});
  drawPicture(block);
  const {me} = state;
  const form = stayingForm([
    make('div', {className: 'own-names'},
      field('display_name', accountWords.displayName, {value: me.display_name, maxLength: LONGEST.display_name, autocomplete: 'name'}),
      field('title', accountWords.title, {value: me.title, maxLength: LONGEST.title, hint: accountWords.titleHint})),
    bioField(me.bio),
    colorField(me),
  ], words.save, saveProfile);
  body.append(make('p', {className: 'lead'}, accountWords.profileLead), block, form);
}

function bioField(bio) {
  const text = make('textarea', {name: 'bio', rows: 3, maxLength: LONGEST.bio, value: bio, dir: 'auto'});
  return make('label', {className: 'field'}, make('span', {}, accountWords.bio), make('span', {className: 'input tall'}, text));
}

function colorField(me) {
  const chosen = HUES.includes(me.color) ? me.color : HUES[0];
  const choices = HUES.map(hue => make('label', {title: accountWords.colors[hue]},
    make('input', {type: 'radio', name: 'color', value: hue, checked: hue === chosen, 'aria-label': accountWords.colors[hue]}),
    avatar({...me, color: hue, avatar: null}, 36)));
  return make('fieldset', {className: 'choices'}, make('legend', {}, accountWords.color), make('div', {className: 'hues'}, ...choices));
}

async function saveProfile(values) {
  if (!values.display_name.trim()) throw new ApiError(400, {error: accountWords.displayNameMissing, field: 'display_name'});
  const {user} = await patch('/me', values);
  apply({kind: 'user', value: user});
  toast(accountWords.profileSaved);
}

function drawPicture(block) {
  const held = block.contains(document.activeElement);
  const buttons = make('div', {className: 'own-picture-buttons'}, uploadButton());
  if (state.me.avatar) buttons.append(removeButton());
  block.replaceChildren(avatar(state.me, AVATAR), make('div', {className: 'grow'}, buttons, make('small', {className: 'hint'}, accountWords.pictureHint)));
  if (held) find('button', block).focus();
}

function uploadButton() {
  const input = make('input', {type: 'file', accept: 'image/*', hidden: true, className: 'picture-file'});
  const button = make('button', {type: 'button', className: 'button small secondary'}, accountWords.uploadPicture);
  button.addEventListener('click', () => input.click());
  input.addEventListener('change', () => attempt(() => choosePicture(input)));
  return make('span', {}, input, button);
}

function removeButton() {
  const button = make('button', {type: 'button', className: 'button small ghost'}, accountWords.removePicture);
  button.addEventListener('click', () => attempt(() => remove('/me/avatar')));
  return button;
}

async function choosePicture(input) {
  const [file] = input.files;
  input.value = '';
  const picture = file && await cropPicture(file, state.settings.max_avatar_size_mb * 1000000);
  if (picture) await request('PUT', '/me/avatar', undefined, {body: picture, headers: {'Content-Type': 'application/octet-stream'}});
}
