/** Pictures as large as the window, one after the other through what the channel shows. */
import {find, icon, label, make} from '../core/dom.js';
import {userName} from '../core/state.js';
import {mediaWords} from '../text/media-words.js';
import {fullTime, sizeInWords} from '../text/measures.js';
import {words} from '../text/words.js';
import {showModal} from '../views/dialog.js';
import {messageOf} from '../views/rows.js';
import {shownMessages} from '../views/timeline.js';
import {zoomable} from '../views/zoom.js';

const ZOOM_STEP = 1.5;
const SLACK = 8;

document.addEventListener('click', event => {
  const link = event.target.closest('a.picture');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  const message = messageOf(link.closest('article'));
  open(picturesOf(message), message, link.getAttribute('href'));
});

/* What waits in the outbox is in no window yet. */
function picturesOf(message) {
  const shown = shownMessages();
  const messages = message && !shown.includes(message) ? [...shown, message] : shown;
  return messages.flatMap(one => (one.files || []).filter(isPicture).map(file => ({file, message: one})));
}

const isPicture = file => file.type.startsWith('image/') && file.width && file.height && !file.removed;

function open(pictures, message, url) {
  const stage = make('div', {className: 'stage'}, make('img', {decoding: 'async', draggable: false}), make('p', {}, words.missingPicture));
  const dialog = make('dialog', {className: 'lightbox'}, stage);
  const box = {pictures, dialog, index: pictures.findIndex(one => one.message === message && one.file.url === url)};
  box.zoom = zoomable(stage, find('img', stage), step => go(box, step));
  dialog.append(headOf(box), turnButton(box, -1, 'left', mediaWords.earlierPicture), turnButton(box, 1, 'right', mediaWords.laterPicture));
  dialog.addEventListener('keydown', event => onKey(box, event));
  closeBeside(stage, dialog);
  find('img', stage).addEventListener('error', () => dialog.classList.add('missing'));
  show(box);
  showModal(dialog);
  find('.close', dialog).focus();
}

/* A stage that follows the pointer takes all clicks for its own: where the press began tells. */
function closeBeside(stage, dialog) {
  let press = null;
  stage.addEventListener('pointerdown', event => { press = event.target === stage ? event : null; });
  stage.addEventListener('click', event => press && Math.abs(event.clientX - press.clientX) < SLACK && dialog.close());
}

function headOf(box) {
  const button = (name, text, run) => {
    const element = make('button', {type: 'button', className: `icon-button ${name}`}, icon(name, 20));
    label(element, text);
    element.addEventListener('click', run);
    return element;
  };
  const download = make('a', {className: 'icon-button download'}, icon('download', 20));
  label(download, mediaWords.download);
  const close = button('x', words.close, () => box.dialog.close());
  close.classList.add('close');
  return make('header', {},
    make('p', {className: 'caption', 'aria-live': 'polite'}, make('b', {className: 'ellipsis', dir: 'auto'}), make('small', {className: 'ellipsis'})),
    make('span', {className: 'place'}),
    button('minus', mediaWords.zoomOut, () => box.zoom.by(1 / ZOOM_STEP)), button('plus', mediaWords.zoomIn, () => box.zoom.by(ZOOM_STEP)),
    download, close);
}

function turnButton(box, step, name, text) {
  const button = make('button', {type: 'button', className: `turn ${name}`}, icon(name, 26));
  label(button, text);
  button.addEventListener('click', () => go(box, step));
  return button;
}

const KEYS = {
  ArrowLeft: box => go(box, -1), ArrowRight: box => go(box, 1),
  '+': box => box.zoom.by(ZOOM_STEP), '=': box => box.zoom.by(ZOOM_STEP), '-': box => box.zoom.by(1 / ZOOM_STEP), 0: box => box.zoom.reset(),
};

function onKey(box, event) {
  const run = !event.ctrlKey && !event.metaKey && !event.altKey && KEYS[event.key];
  if (!run) return;
  event.preventDefault();
  run(box);
}

function go(box, step) {
  if (!box.pictures[box.index + step]) return;
  box.index += step;
  show(box);
}

function show(box) {
  const {dialog, pictures, index} = box;
  const {file, message} = pictures[index];
  const image = find('.stage img', dialog);
  dialog.classList.remove('missing');
  Object.assign(image, {width: file.width, height: file.height, alt: words.picture(file.name), src: file.url});
  box.zoom.reset();
  dialog.setAttribute('aria-label', words.picture(file.name));
  find('.caption b', dialog).textContent = file.name;
  find('.caption small', dialog).textContent = `${mediaWords.byAt(userName(message.user_id), fullTime(message.created_at))} · ${sizeInWords(file.size)}`;
  find('.place', dialog).textContent = pictures.length > 1 ? mediaWords.pictureOf(index + 1, pictures.length) : '';
  Object.assign(find('.download', dialog), {href: file.url, download: file.name});
  turnTo(find('.turn.left', dialog), index > 0);
  turnTo(find('.turn.right', dialog), index < pictures.length - 1);
}

/* A button that takes itself away under the finger must not take the focus along. */
function turnTo(button, possible) {
  if (!possible && document.activeElement === button) find('.close', button.parentElement).focus();
  button.hidden = !possible;
}
