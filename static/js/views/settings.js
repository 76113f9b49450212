/** The settings: a dialog whose sections the features add; on phones a list, then one section. */
import {fill, find, findAll, icon, isPhone, make, setSlot} from '../core/dom.js';
import {listen} from '../core/state.js';
import {words} from '../text/words.js';
import {closeOnBackdrop, showModal} from './dialog.js';
import {toast} from './toast.js';

/* Sections from here on stand at the foot of the list. */
const FOOT = 100;

const sections = [];
let dialog = null;

/**
 * Adds a section: `draw(body)` fills it whenever it is shown, or `run()` is done instead, with the dialog closed.
 * `order` sorts them (from 100 on at the foot); `may()` says whether this person gets it.
 */
export function addSettingsSection({name, icon, label, order, draw = null, run = null, may = () => true}) {
  sections.push({name, icon, label, order, draw, run, may});
  sections.sort((one, other) => one.order - other.order);
}

/** Opens the dialog at a section, or at the first. Those who may come before the sections are loaded tell `show-settings` instead. */
export function openSettings(name) {
  if (!dialog) openList();
  const section = sections.find(one => one.name === name);
  if (section) showSection(section);
  else if (!isPhone()) showSection(offered()[0]);
}

const offered = () => sections.filter(section => section.may());

function openList() {
  dialog = fill('settings', {title: words.settings});
  dialog.setAttribute('aria-label', words.settings);
  setSlot(dialog, 'sections', offered().filter(section => section.order < FOOT).map(sectionButton));
  setSlot(dialog, 'foot', offered().filter(section => section.order >= FOOT).map(sectionButton));
  for (const close of findAll('.close', dialog)) close.addEventListener('click', () => dialog.close());
  find('.back', dialog).addEventListener('click', backToList);
  dialog.addEventListener('cancel', onCancel);
  dialog.addEventListener('close', () => { dialog = null; });
  closeOnBackdrop(dialog);
  showModal(dialog);
}

function sectionButton(section) {
  const button = make('button', {type: 'button', value: section.name}, icon(section.icon, 18), make('span', {}, section.label));
  button.addEventListener('click', () => choose(section));
  return button;
}

function choose(section) {
  if (section.draw) return showSection(section);
  dialog.close();
  return section.run();
}

function showSection(section) {
  for (const button of findAll('.settings-list button', dialog)) {
    if (button.value === section.name) button.setAttribute('aria-current', 'true');
    else button.removeAttribute('aria-current');
  }
  const body = make('div', {className: 'settings-content'});
  dialog.classList.add('at-section');
  dialog.dataset.section = section.name;
  setSlot(dialog, 'heading', section.label);
  setSlot(dialog, 'body', body);
  section.draw(body);
  find('.settings-body', dialog).scrollTop = 0;
  if (isPhone()) find('.settings-section h2', dialog).focus();
}

function backToList() {
  dialog.classList.remove('at-section');
  const current = find('.settings-list [aria-current]', dialog);
  if (current) current.focus();
}

/* On phones Back leads from the section to the list first. */
function onCancel(event) {
  if (!isPhone() || !dialog.classList.contains('at-section')) return;
  event.preventDefault();
  backToList();
}

/* A choice made elsewhere moves the control that shows it. */
listen('preference', name => {
  if (dialog) for (const control of findAll(`[data-preference="${name}"]`, dialog)) control.dispatchEvent(new Event('sync'));
});

listen('preference-refused', error => toast(error.message || words.failed, {name: 'warn'}));
