/** Who somebody is: a card at names and pictures, under a resting pointer, or opened by click, finger and key. */
import {fill, find, findAll, icon, make, setSlot} from '../core/dom.js';
import {listen, localTime, state, tell, userName} from '../core/state.js';
import {endTime} from '../text/measures.js';
import {profileWords} from '../text/profile-words.js';
import {words} from '../text/words.js';
import {avatar, statusLine, statusMark, untilInWords} from '../views/avatar.js';
import {openPopover, placeAt} from '../views/menu.js';
import {addMessageAction, onMessageDrawn} from '../views/message.js';
import {roleTag, startDirect} from '../views/people.js';

/* How long (ms) a pointer rests before the card comes, and may be elsewhere before it goes. */
const REST = 400;
const GRACE = 250;
const AVATAR = 64;

/* `wanted` is the name or picture under the pointer, `anchor` the one whose card is shown. */
const hover = {wanted: null, anchor: null, card: null, timer: 0};

addMessageAction({
  name: 'profile', icon: 'user', label: profileWords.showProfile, order: 50,
  may: message => state.users.has(message.user_id),
  run: (message, article) => openCard(message.user_id, article),
});

onMessageDrawn((article, message) => {
  for (const mention of findAll('.mention[data-user-id]', article)) openBy(mention);
  const name = find('.author > b', article);
  const user = state.users.get(message.user_id);
  if (!name || !user) return;
  const button = make('button', {type: 'button', className: 'author-name', 'aria-haspopup': 'dialog', 'data-profile': user.id});
  name.replaceWith(button, ...[statusMark(user)].filter(Boolean));
  button.append(name);
  find('.gutter > .avatar', article).dataset.profile = user.id;
});

/* No button, so that the text around it flows and can be copied. */
function openBy(mention) {
  mention.dataset.profile = mention.dataset.userId;
  mention.tabIndex = 0;
  mention.setAttribute('role', 'button');
  mention.setAttribute('aria-haspopup', 'dialog');
}

listen('show-profile', ({userId, anchor}) => openCard(userId, anchor));
listen('presence', value => refresh(value.user_id));
listen('user', user => refresh(user.id));
listen('route', hide);

document.addEventListener('click', ({target}) => {
  const anchor = target.closest('[data-profile]');
  if (anchor) openCard(Number(anchor.dataset.profile), anchor);
});
document.addEventListener('pointerover', follow);
document.addEventListener('pointerdown', event => hover.card && !hover.card.contains(event.target) && hide());
document.addEventListener('scroll', hide, {capture: true, passive: true});
document.addEventListener('keydown', event => {
  if (event.key === 'Escape') hide();
  if (event.key !== 'Enter' || !event.target.matches('.mention[data-profile]')) return;
  event.preventDefault();
  openCard(Number(event.target.dataset.profile), event.target);
});

function follow({target, pointerType}) {
  if (pointerType !== 'mouse' || !target.closest) return;
  const inside = hover.card && hover.card.contains(target);
  const wanted = inside ? hover.anchor : target.closest('[data-profile]');
  if (wanted === hover.wanted) return;
  hover.wanted = wanted;
  clearTimeout(hover.timer);
  if (wanted !== hover.anchor) hover.timer = setTimeout(settle, wanted ? REST : GRACE);
}

function settle() {
  const {wanted} = hover;
  hide();
  if (wanted && wanted.isConnected) show(wanted);
}

function show(anchor) {
  const card = make('div', {className: 'popover hover-card'}, drawCard(state.users.get(Number(anchor.dataset.profile))));
  Object.assign(hover, {wanted: anchor, anchor, card});
  document.body.append(card);
  placeAt(card, anchor);
}

function hide() {
  clearTimeout(hover.timer);
  if (hover.card) hover.card.remove();
  Object.assign(hover, {wanted: null, anchor: null, card: null});
}

function openCard(userId, anchor) {
  hide();
  const user = state.users.get(userId);
  if (user) openPopover(anchor, profileWords.profileOf(userName(userId)), drawCard(user));
}

function drawCard(user) {
  const card = fill('user-card', {buttons: buttonsOf(user)});
  card.dataset.userId = user.id;
  card.addEventListener('click', event => event.target.closest('button') && leave(card));
  describe(card, user);
  return card;
}

function leave(card) {
  card.dispatchEvent(new CustomEvent('menu-done', {bubbles: true}));
  hide();
}

function describe(card, user) {
  const slots = {
    avatar: avatar(user, AVATAR, {presence: true}),
    name: user.display_name || user.username,
    username: user.active === false ? '' : `@${user.username}`,
    role: roleTag(user),
    title: user.title,
    presence: user.active === false ? profileWords.accountClosed : presenceInWords(user),
    status: statusLine(user),
    bio: user.bio,
  };
  for (const [name, value] of Object.entries(slots)) setSlot(card, name, value);
}

function refresh(userId) {
  for (const card of findAll(`.user-card[data-user-id="${userId}"]`)) describe(card, state.users.get(userId));
}

function presenceInWords({presence = 'offline', presence_until: until = null, last_seen: lastSeen}) {
  if (presence === 'offline' && lastSeen) return profileWords.lastSeen(endTime(localTime(lastSeen)));
  return untilInWords(profileWords.presence[presence], until);
}

/* Others may add what one can do with a person. */
function buttonsOf(user) {
  const buttons = [];
  if (user.active !== false && user.role !== 'bot') buttons.push(messageButton(user));
  tell('user-card', {user, buttons});
  return buttons;
}

function messageButton(user) {
  const text = user.id === state.me.id ? words.notebook : words.message;
  const button = make('button', {type: 'button', className: 'button small primary'}, icon('compose', 16), text);
  button.addEventListener('click', () => startDirect([user.id]));
  return button;
}
