/** Completes what is written in the composer and where a message is edited: a list at the text, by keys, mouse and finger. */
import {findAll, isComposing, isTouch, make, typeOver} from '../core/dom.js';
import {preference} from '../core/preferences.js';
import {listen} from '../core/state.js';
import {emojiOfCode, loadEmoji} from '../text/emoji.js';
import {emojiWords} from '../text/emoji-words.js';
import {placeAt} from '../views/menu.js';
import {questionAt, shortcodeAt} from '../views/suggestions.js';

const BOXES = '#message-text, .edit-form textarea';

const list = make('div', {id: 'completions', className: 'completions', role: 'listbox', hidden: true});
const news = make('div', {className: 'visually-hidden', role: 'status'});
/* `dismissed` is where the word begins that nobody wants completed. */
const shown = {box: null, question: null, options: [], at: 0, dismissed: -1};
document.body.append(list, news);

document.addEventListener('input', event => event.target.matches(BOXES) && onInput(event));
document.addEventListener('keydown', onKey, true);
document.addEventListener('selectionchange', () => shown.box && look(shown.box));
document.addEventListener('focusout', event => event.target === shown.box && close());
document.addEventListener('scroll', event => shown.box && event.target !== list && placeAt(list, shown.box), {capture: true, passive: true});
for (const topic of ['route', 'sent']) listen(topic, close);
/* What was written while this was still being fetched is completed as well, once all below stands. */
queueMicrotask(() => document.activeElement.matches(BOXES) && look(document.activeElement));
/* The text keeps the focus. */
list.addEventListener('mousedown', event => event.preventDefault());
list.addEventListener('click', event => {
  const option = event.target.closest('[role="option"]');
  if (option) take(findAll('[role="option"]', list).indexOf(option));
});

/* Screen keyboards compose every word, so on touch the list follows; elsewhere an input method has a list of its own. */
function onInput(event) {
  if (event.isComposing && !isTouch()) return close();
  if ((event.inputType || '').startsWith('insert')) replaceShortcode(event.target);
  look(event.target);
}

const textBefore = box => box.value.slice(0, box.selectionStart);

/** What is under the caret now: opens, follows or closes the list. */
function look(box) {
  if (document.activeElement !== box) return close();
  const question = box.selectionStart === box.selectionEnd ? questionAt(textBefore(box)) : null;
  if (!question) shown.dismissed = -1;
  if (!question || question.start === shown.dismissed) return close();
  const same = shown.box === box && shown.question.start === question.start;
  if (same && shown.question.query === question.query) return;
  Object.assign(shown, {box, question, at: 0});
  draw();
  const coming = question.source.prepare();
  if (coming) coming.then(() => shown.question === question && draw(), () => {});
}

function draw() {
  const {box, question} = shown;
  shown.options = question.source.find(question.query);
  if (!shown.options.length) return hide();
  list.setAttribute('aria-label', emojiWords.suggestions[question.source.name]);
  list.replaceChildren(...shown.options.map(drawOption));
  list.hidden = false;
  placeAt(list, box);
  for (const [name, value] of Object.entries({role: 'combobox', 'aria-autocomplete': 'list', 'aria-expanded': 'true', 'aria-controls': list.id})) {
    box.setAttribute(name, value);
  }
  say(emojiWords.suggested(shown.options.length));
  mark(shown.at);
}

function drawOption({mark: picture, name, about, note}, index) {
  return make('div', {id: `completion-${index}`, role: 'option', className: note ? 'outside' : '', 'aria-selected': 'false'},
    make('span', {className: 'completion-mark', 'aria-hidden': 'true'}, picture), make('b', {className: 'ellipsis', dir: 'auto'}, name),
    make('small', {className: 'ellipsis grow', dir: 'auto'}, about), note ? make('span', {className: 'tag'}, note) : null);
}

function say(text) {
  if (news.textContent !== text) news.textContent = text;
}

function mark(index) {
  shown.at = (index + shown.options.length) % shown.options.length;
  [...list.children].forEach((option, place) => option.setAttribute('aria-selected', String(place === shown.at)));
  list.children[shown.at].scrollIntoView({block: 'nearest'});
  shown.box.setAttribute('aria-activedescendant', list.children[shown.at].id);
}

/* Without anything that fits the word is still followed. */
function hide() {
  list.hidden = true;
  say('');
  for (const name of ['role', 'aria-autocomplete', 'aria-expanded', 'aria-controls', 'aria-activedescendant']) shown.box.removeAttribute(name);
}

function close() {
  if (!shown.box) return;
  hide();
  Object.assign(shown, {box: null, question: null, options: []});
}

const KEYS = {
  ArrowDown: () => mark(shown.at + 1),
  ArrowUp: () => mark(shown.at - 1),
  Enter: () => take(shown.at),
  Tab: () => take(shown.at),
  Escape: dismiss,
};

/* Before anybody else: while the list is open, its keys mean the list. */
function onKey(event) {
  if (event.target !== shown.box || list.hidden || isComposing(event)) return;
  if (!KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  event.preventDefault();
  event.stopPropagation();
  KEYS[event.key]();
}

function dismiss() {
  shown.dismissed = shown.question.start;
  close();
}

function take(index) {
  const {box, question, options} = shown;
  const end = question.start + question.query.length + 1;
  const spaced = /^\s/.test(box.value.slice(end));
  close();
  typeOver(box, question.start, end, spaced ? options[index].text.trimEnd() : options[index].text);
}

/* -- shortcodes that are typed to their end */

/* The table may still be on its way when the second colon is typed. */
async function replaceShortcode(box) {
  const before = textBefore(box);
  const found = shortcodeAt(before);
  if (!found) return;
  await loadEmoji().catch(() => {});
  const emoji = emojiOfCode(found.code, preference('skin_tone', 0));
  if (emoji && textBefore(box) === before) typeOver(box, found.start, before.length, emoji);
}
