/** The box one writes in; features add what goes along with the text. */
import {fill, find, icon, isComposing, isTouch, make, setSlot, slot, typeOver} from '../core/dom.js';
import {send} from '../core/outbox.js';
import {preference} from '../core/preferences.js';
import {channelName, listen, mayWrite, openChannel, state, tell} from '../core/state.js';
import {words} from '../text/words.js';
import {addShortcut, shownKeys} from './shortcuts.js';

const COUNTER_FROM = 1000;

const contributors = [];
const composer = {channelId: null};
/* Texts that wait for what goes along with them, by channel; whoever writes on there takes the text back. */
const held = new Map();

/** Adds what a feature sends along: {ready(channelId), parts(channelId)}; it empties itself once `sent` is told. */
export function addContributor(contributor) {
  contributors.push(contributor);
}

export const messageBox = () => find('#message-text');

/** Wires the composer to what is told. */
export function startComposer() {
  for (const {name, keys, run} of TOOLS) addShortcut({keys, label: words[name], group: 'writing', may: isWriting, run});
  for (const topic of ['snapshot', 'channel', 'mine', 'route', 'link', 'preference']) listen(topic, draw);
  find('.skip-link').addEventListener('click', skip);
  draw();
}

/* The address after the # names a channel here, so the jump is made by hand. */
function skip(event) {
  event.preventDefault();
  (messageBox() || find('#timeline')).focus();
}

/* What is being written must survive every change of the channel that still allows writing. */
function draw() {
  const channel = openChannel();
  if (!mayWrite(channel)) return drawNotice(channel);
  if (!find('#composer')) mount();
  if (composer.channelId !== channel.id) enter(channel);
  const label = words.messageTo(channel.kind === 'direct' ? channelName(channel) : `#${channel.name}`);
  messageBox().setAttribute('aria-label', label);
  messageBox().placeholder = state.link.status === 'off' ? words.writeLater : label;
  find('.composer-foot .key-help').textContent = words.sendHelp[sendKey()];
}

/** What sends: `enter`, or `chord`, which is Ctrl+Enter or Cmd+Enter. */
const sendKey = () => preference('send_key', 'enter');

function drawNotice(channel) {
  composer.channelId = null;
  if (!channel) return find('#foot').replaceChildren();
  const notice = fill('notice', {text: noticeFor(channel)});
  find('#foot').replaceChildren(notice);
  tell('notice-drawn', notice);
}

function noticeFor(channel) {
  if (channel.archived) return words.archivedNotice;
  return channel.joined ? words.adminsOnlyNotice : words.joinNotice(channel.name);
}

function mount() {
  const form = fill('composer');
  find('#foot').replaceChildren(form);
  form.addEventListener('submit', event => { event.preventDefault(); submit(); });
  messageBox().enterKeyHint = isTouch() ? 'enter' : 'send';
  messageBox().addEventListener('input', onInput);
  messageBox().addEventListener('keydown', onKey);
  for (const tool of TOOLS) addTool(form, 'format', toolButton(tool));
  tell('composer-drawn', form);
}

function enter(channel) {
  composer.channelId = channel.id;
  sayBelow(held.has(channel.id) ? words.uploadsUnderWay : '');
  tell('composer-opened', channel.id);
  if (!isTouch()) messageBox().focus({preventScroll: true});
}

/** Replaces the text, as if it had been typed. */
export function setText(text) {
  messageBox().value = text;
  showText();
}

function onInput() {
  takeBack(composer.channelId);
  showText();
}

function showText() {
  grow(messageBox());
  drawCounter();
  tell('composer-input', composer.channelId);
}

/** Lets a text box grow with its text: the style sheet lays the same text behind it. */
export function grow(box) {
  box.parentElement.dataset.text = `${box.value}\n`;
}

const length = text => [...text].length;
const limit = () => state.settings.max_message_length || 10000;

function drawCounter() {
  const counter = find('#counter');
  const {value} = messageBox();
  /* Code points are at most as many as code units, so a short text need not be counted. */
  const left = value.length < limit() - COUNTER_FROM ? COUNTER_FROM + 1 : limit() - length(value);
  counter.hidden = left > COUNTER_FROM;
  counter.classList.toggle('over', left < 0);
  counter.textContent = counter.hidden ? '' : words.charactersLeft(left);
}

function onKey(event) {
  if (event.defaultPrevented || !isSendKey(event)) return;
  event.preventDefault();
  submit();
}

/** Whether a key means "send". Screen keyboards have no Shift+Enter: there Enter breaks the line and the button sends. */
export function isSendKey(event) {
  if (event.key !== 'Enter' || event.shiftKey || event.altKey || isComposing(event)) return false;
  return event.ctrlKey || event.metaKey || !(isTouch() || sendKey() === 'chord');
}

/* Says something in the line under the box. */
function sayBelow(text) {
  if (find('#composer')) find('.composer-foot [data-slot="left"]').textContent = text;
}

/** Sends what is written, with what features add; an upload under way holds it back. */
export function submit() {
  const {channelId} = composer;
  const text = messageBox().value.trimEnd();
  if (length(text) > limit()) return sayBelow(words.tooLong(limit()));
  held.set(channelId, text);
  if (contributors.every(contributor => contributor.ready(channelId))) release(channelId, true);
  else sayBelow(words.uploadsUnderWay);
}

/** Ends the waiting in a channel, which need not be the open one: what is complete goes, anything else stays a draft. */
export function release(channelId, complete) {
  const text = takeBack(channelId);
  if (text !== undefined && complete && mayWrite(state.channels.get(channelId))) sendOff(channelId, text);
}

function takeBack(channelId) {
  const text = held.get(channelId);
  held.delete(channelId);
  if (channelId === composer.channelId) sayBelow('');
  return text;
}

function sendOff(channelId, text) {
  const parts = Object.assign({}, ...contributors.map(contributor => contributor.parts(channelId)));
  if (!text.trim() && !(parts.files || []).length) return;
  if (channelId === composer.channelId) setText('');
  send({channel_id: channelId, text: text.trim() ? text : '', ...parts});
  tell('sent', channelId);
}

/* Marks go into a message that is edited as well. */
const writingBox = () => find('.edit-form textarea:focus') || messageBox();

/** Puts marks around what is selected, or takes them away again. */
function wrapSelection(before, after = before) {
  const box = writingBox();
  const {selectionStart: start, selectionEnd: end, value} = box;
  const inside = value.slice(start, end);
  const wrapped = value.slice(start - before.length, start) === before && value.slice(end, end + after.length) === after;
  if (wrapped) return replaceText(start - before.length, end + after.length, inside, start - before.length, inside.length);
  replaceText(start, end, before + inside + after, start + before.length, inside.length);
}

/** Puts a mark before each selected line. */
function prefixLines(prefix) {
  const box = writingBox();
  const start = box.value.lastIndexOf('\n', box.selectionStart - 1) + 1;
  const lines = box.value.slice(start, box.selectionEnd).split('\n').map(line => prefix + line).join('\n');
  replaceText(start, box.selectionEnd, lines, start + lines.length, 0);
}

function replaceText(start, end, text, select, selected) {
  typeOver(writingBox(), start, end, text);
  writingBox().setSelectionRange(select, select + selected);
}

const TOOLS = [
  {name: 'bold', size: 18, keys: 'Ctrl+B', run: () => wrapSelection('**')},
  {name: 'italic', size: 18, keys: 'Ctrl+I', run: () => wrapSelection('*')},
  {name: 'underline', size: 18, keys: 'Ctrl+U', run: () => wrapSelection('__')},
  {name: 'strike', size: 18, keys: ['Ctrl+S', 'Ctrl+Shift+X'], run: () => wrapSelection('~~')},
  {name: 'code', size: 19, keys: ['Ctrl+Shift+C', 'Ctrl+E'], run: markCode},
  {name: 'list', size: 19, keys: 'Ctrl+Shift+8', run: () => prefixLines('- ')},
  {name: 'quote', size: 19, keys: 'Ctrl+Shift+9', run: () => prefixLines('> ')},
  {name: 'link', size: 18, keys: 'Ctrl+Shift+U', run: () => wrapSelection('[', '](https://)')},
];

const isWriting = event => event.target.matches('#message-text, .edit-form textarea');

function markCode() {
  const {selectionStart, selectionEnd, value} = writingBox();
  const lines = value.slice(selectionStart, selectionEnd).includes('\n');
  if (lines) wrapSelection('```\n', '\n```');
  else wrapSelection('`');
}

function toolButton({name, size, keys, run}) {
  const text = `${words[name]} (${shownKeys([keys].flat()[0])})`;
  const button = make('button', {type: 'button', className: 'tool', 'aria-label': words[name], title: text}, icon(name, size));
  /* The text keeps the focus and its selection. */
  button.addEventListener('mousedown', event => event.preventDefault());
  button.addEventListener('click', run);
  return button;
}

/** A button for one of the composer's tool groups: `attach`, `insert`, `format`. */
export function addTool(form, group, button) {
  slot(form, group).append(button);
}

/** Fills a slot of the composer: `reply` or `tray`. */
export function fillComposer(name, content) {
  if (find('#composer')) setSlot(find('#composer'), name, content);
}

/** Adds the button of a notice that stands where the composer would. */
export function fillNotice(notice, label, run) {
  const button = make('button', {type: 'button', className: 'button primary small'}, label);
  button.addEventListener('click', run);
  setSlot(notice, 'action', button);
}
