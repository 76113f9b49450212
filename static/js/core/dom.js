/** Templates become elements here, and nowhere does text become markup. */

const SVG = 'http://www.w3.org/2000/svg';
let words = {};

/** Hands over the table of words that `data-word`, `data-label` and `data-label-only` name. */
export function useWords(table) {
  words = table;
}

export function find(selector, root = document) {
  return root.querySelector(selector);
}

export function findAll(selector, root = document) {
  return [...root.querySelectorAll(selector)];
}

/** An element with properties and children; a string child becomes a text node. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) setProperty(element, name, value);
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

/* -- buttons that a feature answers: without the feature they are not there */

const claims = new Set();

/** Says that something answers the buttons of `selectors`, a list with commas; from now on they are shown. */
export function claim(selectors) {
  for (const selector of selectors.split(', ')) claims.add(selector);
  hideUnclaimed(document);
}

/** Whether something answers a button, which names its selector in `data-claim`. */
export const isClaimed = button => claims.has(button.dataset.claim);

function hideUnclaimed(root) {
  for (const button of findAll('[data-claim]', root)) button.hidden = !isClaimed(button);
}

function setProperty(element, name, value) {
  if (value === undefined || value === null) return;
  if (name.includes('-') || !(name in element)) element.setAttribute(name, value);
  else element[name] = value;
}

/** One icon of the page's sprite; decorative, so the control around it carries the name. */
export function icon(name, size = 20) {
  const drawing = drawingOf(size, size);
  drawing.classList.add('icon');
  drawing.append(useOf(`#icon-${name}`));
  return drawing;
}

export function drawingOf(width, height, viewBox) {
  const drawing = document.createElementNS(SVG, 'svg');
  drawing.setAttribute('width', width);
  drawing.setAttribute('height', height);
  drawing.setAttribute('aria-hidden', 'true');
  if (viewBox) drawing.setAttribute('viewBox', viewBox);
  return drawing;
}

export function useOf(address) {
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', address);
  return use;
}

export function drawingText(text, x, y, size) {
  const element = document.createElementNS(SVG, 'text');
  for (const [name, value] of Object.entries({x, y, 'font-size': size, 'text-anchor': 'middle'})) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

const sheets = new Map();

/** Resolves once the style sheets `names`, which come with what they dress, are there or cannot be had. */
export const styled = (...names) => Promise.all(names.map(name => {
  if (!sheets.has(name)) sheets.set(name, loadSheet(name));
  return sheets.get(name);
}));

function loadSheet(name) {
  return new Promise(resolve => {
    const link = make('link', {rel: 'stylesheet', href: `/static/css/${name}.css`});
    link.addEventListener('load', resolve);
    link.addEventListener('error', () => { sheets.delete(name); link.remove(); resolve(); });
    document.head.append(link);
  });
}

/** A copy of `<template id="NAME-template">` with its slots filled; one element, or a fragment when the template has several. */
export function fill(name, slots = {}) {
  const copy = document.getElementById(`${name}-template`).content.cloneNode(true);
  sayWords(copy);
  hideUnclaimed(copy);
  for (const [slot, value] of Object.entries(slots)) setSlot(copy, slot, value);
  return copy.childElementCount === 1 ? copy.firstElementChild : copy;
}

function sayWords(root) {
  for (const element of findAll('[data-word]', root)) element.textContent = words[element.dataset.word];
  for (const element of findAll('[data-label]', root)) label(element, words[element.dataset.label]);
  for (const element of findAll('[data-placeholder]', root)) element.placeholder = words[element.dataset.placeholder];
  for (const element of findAll('[data-label-only]', root)) element.setAttribute('aria-label', words[element.dataset.labelOnly]);
}

/** Names a control that shows only an icon, for readers and as a tooltip. */
export function label(element, text) {
  element.setAttribute('aria-label', text);
  element.title = text;
}

export function slot(root, name) {
  return find(`[data-slot="${name}"]`, root);
}

/** Puts text, a node, or a list of nodes into a slot; nothing empties it. */
export function setSlot(root, name, value) {
  const target = slot(root, name);
  if (!target) return;
  if (value === null || value === undefined || value === '') return target.replaceChildren();
  target.replaceChildren(...(Array.isArray(value) ? value : [value]));
}

/** Fills a slot, unless it looks so already. */
export function refillSlot(root, name, value) {
  const wanted = make('div', {}, slot(root, name).cloneNode(false));
  setSlot(wanted, name, value);
  refill(slot(root, name), ...slot(wanted, name).childNodes);
}

/** Puts nodes into an element unless it looks so already: what is replaced while a pointer is down on it swallows the click. */
export function refill(element, ...nodes) {
  const wanted = element.cloneNode(false);
  wanted.append(...nodes);
  if (!wanted.isEqualNode(element)) element.replaceChildren(...wanted.childNodes);
}

export function firstInView(scroller) {
  const edge = scroller.getBoundingClientRect().top;
  return findAll('article', scroller).find(article => article.getBoundingClientRect().bottom > edge);
}

export function distanceToEnd({scrollTop, scrollHeight, clientHeight}) {
  return scrollHeight - scrollTop - clientHeight;
}

/** Changes the content of a scroller while its first article in view stays where it is; other rows may be sticky. */
export function keepScroll(scroller, change) {
  const anchor = firstInView(scroller);
  const before = anchor && anchor.getBoundingClientRect().top;
  change();
  const now = anchor && findAll('article', scroller).find(row => row.dataset.key === anchor.dataset.key);
  if (now) scroller.scrollTop += now.getBoundingClientRect().top - before;
}

/** Whether somebody looks at this page now. */
export const isLookedAt = () => !document.hidden && document.hasFocus();

/** Puts text on the clipboard, also where plain HTTP hides `navigator.clipboard`. */
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const held = document.activeElement;
  const area = make('textarea', {value: text, className: 'visually-hidden'});
  const host = find('dialog[open]') || document.body;
  host.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
  if (held) held.focus();
}

/** Replaces a part of a text box as if it had been typed, and leaves the caret behind it. */
export function typeOver(box, start, end, text) {
  box.focus();
  box.setSelectionRange(start, end);
  /* execCommand keeps the browser's own undo working; setRangeText is for browsers that refuse it. */
  if (document.execCommand('insertText', false, text)) return;
  box.setRangeText(text, start, end, 'end');
  box.dispatchEvent(new InputEvent('input', {bubbles: true}));
}

/** True while an input method is still composing; 229 is what old engines report instead. */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

/** A random id of 22 letters; `crypto.randomUUID` is missing on plain HTTP. */
export function newId() {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  return [...crypto.getRandomValues(new Uint8Array(22))].map(byte => letters[byte & 63]).join('');
}

export function isPhone() {
  return matchMedia('(max-width: 719px)').matches;
}

export function isTouch() {
  return matchMedia('(pointer: coarse)').matches;
}
