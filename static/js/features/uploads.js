/** Files that go along with a message: chosen, pasted or dropped; uploaded at once, with progress. */
import {ApiError, upload} from '../core/api.js';
import {fill, find, icon, label, make, setSlot} from '../core/dom.js';
import {listen, mayWrite, openChannel, state} from '../core/state.js';
import {fileKind, sizeInWords} from '../text/measures.js';
import {words} from '../text/words.js';
import {addContributor, addTool, fillComposer, messageBox, release} from '../views/composer.js';
import {toast} from '../views/toast.js';

const MEGABYTE = 1e6;

/* The uploads of each channel, so that changing channel takes nothing along: {file, status, sent, error, result, cancel, chip}. */
const trays = new Map();
const trayOf = channelId => trays.get(channelId) || [];

addContributor({
  ready: channelId => trayOf(channelId).every(item => item.status !== 'sending'),
  parts: channelId => ({files: trayOf(channelId).filter(item => item.status === 'done').map(item => item.result)}),
});

function setTray(channelId, items) {
  trays.set(channelId, items);
  if (channelId === state.channelId) fillComposer('tray', items.map(item => item.chip));
}

listen('composer-opened', channelId => setTray(channelId, trayOf(channelId)));
listen('sent', channelId => setTray(channelId, trayOf(channelId).filter(item => item.status !== 'done')));

listen('composer-drawn', addButton);
if (find('#composer')) addButton(find('#composer'));

function addButton(form) {
  const input = make('input', {type: 'file', id: 'file-input', multiple: true, className: 'visually-hidden', tabIndex: -1, 'aria-label': words.attach});
  input.addEventListener('change', () => { addFiles([...input.files]); input.value = ''; });
  const button = make('button', {type: 'button', className: 'tool', 'aria-label': words.attach, title: words.attach}, icon('plus', 20));
  button.addEventListener('click', () => input.click());
  addTool(form, 'attach', button);
  addTool(form, 'attach', input);
  messageBox().addEventListener('paste', onPaste);
}

listen('attach-files', ({channelId, files}) => addFiles(files, channelId));

/* All limits are named before a byte is sent. */
function addFiles(files, channelId = state.channelId) {
  const {max_files: most, max_upload_size_mb: megabytes} = state.settings;
  const room = most - trayOf(channelId).length;
  if (files.length > room) toast(words.tooManyFiles(most), {name: 'warn'});
  for (const file of files.slice(0, Math.max(0, room))) {
    if (file.size > megabytes * MEGABYTE) toast(words.fileTooLarge(file.name, sizeInWords(file.size), `${megabytes} MB`), {name: 'warn'});
    else if (!file.size) toast(words.fileEmpty(file.name), {name: 'warn'});
    else addItem(channelId, file);
  }
}

function addItem(channelId, file) {
  const item = {file, channelId, status: 'sending', sent: 0, error: '', result: null, cancel: null, chip: null};
  item.chip = drawChip(item);
  setTray(channelId, [...trayOf(channelId), item]);
  start(item);
}

function drawChip(item) {
  const chip = fill('upload', {name: item.file.name || words.file, thumb: thumbOf(item.file)});
  const close = find('.remove', chip);
  label(close, words.removeFile(item.file.name));
  close.addEventListener('click', () => removeItem(item));
  return chip;
}

function thumbOf(file) {
  if (!file.type.startsWith('image/')) return make('span', {className: 'file-type'}, fileKind(file.name));
  const address = URL.createObjectURL(file);
  const image = make('img', {src: address, width: 40, height: 40, alt: ''});
  image.addEventListener('load', () => URL.revokeObjectURL(address));
  image.addEventListener('error', () => image.replaceWith(make('span', {className: 'file-type'}, fileKind(file.name))));
  return image;
}

function removeItem(item) {
  if (item.status === 'sending') item.cancel();
  setTray(item.channelId, trayOf(item.channelId).filter(other => other !== item));
  settle(item.channelId);
  messageBox().focus();
}

async function start(item) {
  Object.assign(item, {status: 'sending', sent: 0, error: ''});
  showItem(item);
  const name = encodeURIComponent(item.file.name || words.file);
  const {done, cancel} = upload(`/files?name=${name}`, item.file, sent => { item.sent = sent; showItem(item); });
  item.cancel = cancel;
  try {
    item.result = await done;
    item.status = 'done';
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code === 'cancelled') return;
    fail(item, error);
  }
  showItem(item);
  settle(item.channelId);
}

const percentOf = item => Math.floor(100 * item.sent / item.file.size);

function fail(item, error) {
  item.status = 'failed';
  item.error = error.status === 0 ? words.uploadBroke(percentOf(item)) : error.message || words.failed;
}

/* What was sent while uploads were under way goes once the last is done. */
function settle(channelId) {
  const items = trayOf(channelId);
  if (items.some(item => item.status === 'sending')) return;
  release(channelId, items.every(item => item.status === 'done'));
}

function showItem(item) {
  const {chip, file, status} = item;
  chip.dataset.status = status;
  const bar = find('progress', chip);
  bar.value = item.sent / file.size;
  bar.hidden = status !== 'sending';
  setSlot(chip, 'about', aboutItem(item));
  setSlot(chip, 'retry', status === 'failed' ? retryButton(item) : null);
}

function aboutItem(item) {
  const size = sizeInWords(item.file.size);
  if (item.status === 'failed') return item.error;
  if (item.status === 'done') return size;
  return `${words.progress(percentOf(item), size)} · ${words.progressExact(sizeInWords(item.sent), size)}`;
}

function retryButton(item) {
  const button = make('button', {type: 'button', className: 'button small ghost'}, words.retry);
  button.addEventListener('click', () => start(item));
  return button;
}

async function onPaste(event) {
  const files = [...event.clipboardData.files];
  const text = event.clipboardData.getData('text/plain');
  if (files.length && !text) {
    event.preventDefault();
    addFiles(files);
  } else if ([...text].length > state.settings.max_message_length) {
    event.preventDefault();
    offerAsFile(text);
  }
}

async function offerAsFile(text) {
  const {ask} = await import('../views/dialog.js');
  const asFile = await ask(words.longPasteTitle, words.longPasteText(state.settings.max_message_length), words.attachAsFile);
  if (asFile) addFiles([new File([text], words.pastedName, {type: 'text/plain'})]);
}

/* Dropping works on the whole conversation; elsewhere it must not make the browser leave the page. */
const carriesFiles = event => event.dataTransfer && [...event.dataTransfer.types].includes('Files');
const target = () => find('#drop-target');
const mayDrop = () => mayWrite(openChannel());

addEventListener('dragover', event => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = mayDrop() ? 'copy' : 'none';
  if (target()) target().hidden = !mayDrop();
});

addEventListener('dragleave', event => {
  if (!event.relatedTarget && target()) target().hidden = true;
});

addEventListener('drop', event => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  target().hidden = true;
  if (mayDrop()) addFiles([...event.dataTransfer.files]);
});
