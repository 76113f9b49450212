/** How a message looks, everywhere; features add actions to it and fill what lies below it. */
import {fill, icon, make, setSlot, slot} from '../core/dom.js';
import {addressOf, isForMe, state, userName} from '../core/state.js';
import {markup} from '../text/markup.js';
import {clockTime, fileKind, fullTime, sizeInWords, VOICE_NAME} from '../text/measures.js';
import {words} from '../text/words.js';
import {avatar} from './avatar.js';

const PICTURE = {width: 360, height: 260};
const SYSTEM_ICONS = {renamed: 'edit', topic: 'edit', archived: 'lock', left: 'logout', removed: 'logout'};
const UNKNOWN = {id: 0, username: '?', display_name: '?'};

/* One emoji: a flag, a keycap, or pictures joined into one, in any tone (Unicode TS 51, 1.4.9). */
const SYMBOL = String.raw`(?:\p{Emoji_Presentation}|\p{Emoji_Modifier_Base}(?=\p{Emoji_Modifier})|\p{Emoji}\uFE0F)[\p{Emoji_Modifier}\u{E0020}-\u{E007F}]*`;
const ONE_EMOJI = String.raw`(?:\p{RI}{2}|[0-9#*]\uFE0F?\u20E3|${SYMBOL}(?:\u200D(?:${SYMBOL}|\p{Emoji}))*)`;
const ONLY_EMOJI = new RegExp(`^\\s*(?:${ONE_EMOJI}\\s*){1,3}$`, 'u');
const LONGEST_EMOJI = 100;

/**
 * What one can do with a message: {name, icon, label, key?, danger?, quick?, order, may(message), run(message, article)}.
 * `key` is named as for `addShortcut`. A `glyph` stands in the toolbar in place of the icon, with `toolbarOnly` nowhere else;
 * `row(message, article)` may draw another entry of the menu.
 */
export const messageActions = [];

const finishers = [];
let edition = 0;

/** Registers an action of the toolbar, the menu and the sheet. */
export function addMessageAction(action) {
  messageActions.push(action);
  messageActions.sort((one, other) => one.order - other.order);
}

/** Calls `finish(article, message)` after each drawing, to fill the slots `quote` and `below`. */
export function onMessageDrawn(finish) {
  finishers.push(finish);
  outdateMessages();
}

/** Says that a finisher draws differently now: the next `redraw` draws every row again. */
export function outdateMessages() {
  edition += 1;
}

/** Rows of an earlier edition must be drawn again. */
export const messageEdition = () => edition;

/** One message as an article; `grouped` leaves out the author, `entry` is its place in the outbox. */
export function drawMessage(message, {grouped = false, entry = null} = {}) {
  const article = message.kind === 'text' ? drawText(message, grouped) : drawSystem(message);
  article.dataset.id = message.id || '';
  article.classList.toggle('grouped', grouped);
  article.classList.toggle('deleted', Boolean(message.deleted));
  article.classList.toggle('mentions-me', isForMe(message));
  article.classList.toggle('only-emoji', isOnlyEmoji(message.text));
  article.setAttribute('aria-label', words.messageBy(userName(message.user_id), fullTime(message.created_at)));
  if (entry) drawDelivery(article, entry);
  for (const finish of finishers) finish(article, message);
  return article;
}

function drawText(message, grouped) {
  const user = state.users.get(message.user_id) || {...UNKNOWN, id: message.user_id};
  return fill('message', {
    gutter: grouped ? timeOf(message) : avatar(user, 36),
    author: grouped ? null : authorLine(message, user),
    text: textOf(message),
    edited: editedNote(message),
    files: (message.files || []).map(drawFile),
  });
}

function authorLine(message, user) {
  const bot = user.role === 'bot' ? make('span', {className: 'tag'}, words.roles.bot) : null;
  return [make('b', {dir: 'auto'}, user.display_name || user.username), bot, timeOf(message)].filter(Boolean);
}

function timeOf(message) {
  const link = message.id ? {href: addressOf(message.channel_id, message.id)} : {};
  const time = make('time', {dateTime: new Date(message.created_at).toISOString()}, clockTime(message.created_at));
  return make('a', {...link, className: 'time', 'data-full': fullTime(message.created_at), tabIndex: -1}, time);
}

function textOf(message) {
  if (message.deleted) return make('p', {className: 'gone'}, words.deletedMessage);
  const elements = markup(message.text);
  if (message.id) for (const element of elements) forgetCalls(element, message.mentions || []);
  return elements;
}

/* A call to everybody that the server did not take, such as a guest's, is but a word. */
function forgetCalls(element, mentions) {
  for (const call of element.querySelectorAll('.mention[data-call]')) if (!mentions.includes(call.dataset.call)) call.replaceWith(call.textContent);
}

/** Whether a text is one to three emoji and nothing else. */
export const isOnlyEmoji = text => text.length <= LONGEST_EMOJI && ONLY_EMOJI.test(text);

function editedNote({edited_at: at, deleted}) {
  return at && !deleted ? make('span', {title: fullTime(at)}, `(${words.edited})`) : null;
}

function drawSystem(message) {
  const {event, ...data} = message.data || {};
  const say = words.system[event];
  return fill('system', {
    icon: icon(SYSTEM_ICONS[event] || 'info', 17),
    name: userName(message.user_id),
    text: say ? say({...data, who: userName(data.user_id)}) : words.systemOther,
    time: timeOf(message),
  });
}

const SHOW_FILE = {image: drawPicture, video: drawMedia, audio: drawMedia};

function drawFile(file) {
  if (file.removed) return drawRemoved(file);
  const [family] = (file.type || '').split('/');
  return (SHOW_FILE[family] || drawCard)(file, family);
}

/* A picture's box is reserved from its stored size, so that nothing moves when it arrives. */
function drawPicture(file) {
  if (!file.width || !file.height) return drawCard(file);
  const scale = Math.min(1, PICTURE.width / file.width, PICTURE.height / file.height);
  const box = {width: Math.max(1, Math.round(file.width * scale)), height: Math.max(1, Math.round(file.height * scale))};
  const image = make('img', {...box, src: file.url, alt: words.picture(file.name), loading: 'lazy', decoding: 'async'});
  const link = make('a', {className: 'picture', href: file.url, target: '_blank', rel: 'noopener', title: file.name}, image);
  image.addEventListener('error', () => link.replaceChildren(missingPicture(box)));
  return link;
}

/* As large as the picture would have been: what stands below it must not jump. */
function missingPicture({width, height}) {
  const place = make('span', {className: 'missing-picture'}, icon('image', 20), words.missingPicture);
  place.style.setProperty('--width', `${width}px`);
  place.style.setProperty('--shape', `${width} / ${height}`);
  return place;
}

function drawMedia(file, family) {
  const media = make(family, {preload: family === 'video' ? 'metadata' : 'none', controls: true, src: file.url});
  const caption = make('a', {href: file.url, download: file.name, dir: 'auto'}, file.name);
  const figure = make('figure', {className: `media ${family}`, 'data-file': file.id}, media,
    isVoice(file) ? null : make('figcaption', {}, caption, ` · ${sizeInWords(file.size)}`));
  /* One that a player has replaced fails as well. */
  media.addEventListener('error', () => media.parentElement === figure && figure.replaceWith(drawCard(file)));
  return figure;
}

const isVoice = file => file.name.startsWith(VOICE_NAME);

/** A file as a card with its name, type and size. */
export function drawCard(file) {
  const kind = fileKind(file.name);
  const card = fill('file-card', {type: kind, name: file.name, about: `${kind} · ${sizeInWords(file.size)}`});
  card.href = file.url;
  card.download = file.name;
  card.title = file.name;
  slot(card, 'type').dataset.kind = kind;
  return card;
}

/* Its time is over: the name stays, the bytes are gone. */
function drawRemoved(file) {
  const card = drawCard(file);
  card.removeAttribute('href');
  setSlot(card, 'about', words.fileRemoved);
  return card;
}

const DELIVERY = {waiting: ['clock', () => words.waiting], sending: ['clock', () => words.sending], failed: ['warn', entry => words.notSent(entry.error)]};

function drawDelivery(article, entry) {
  const status = entry.status === 'waiting' && state.link.status === 'on' ? 'sending' : entry.status;
  const [name, say] = DELIVERY[status];
  const line = fill('delivery', {icon: icon(name, 14), text: say(entry)});
  line.classList.add(status);
  article.classList.add('pending', status);
  article.dataset.clientId = entry.client_id;
  slot(article, 'below').append(line);
}

/** Puts nodes under a message's text. */
export function fillQuote(article, node) {
  setSlot(article, 'quote', node);
}
