/** The administration: how full the stick is, backups, cleaning up. */
import {get, post} from '../core/api.js';
import {icon, make} from '../core/dom.js';
import {adminWords as words} from '../text/admin-words.js';
import {sizeInWords} from '../text/measures.js';
import {words as pageWords} from '../text/words.js';
import {button, card, listRow, paragraph, whenInWords} from './admin-parts.js';
import {ask} from './dialog.js';
import {attempt, toast} from './toast.js';

/* How often to look whether a backup is made (ms). */
const LOOK_AGAIN = 700;

/** Fills the part about storage. */
export function drawStorage(body) {
  fillStorage(body);
}

async function fillStorage(body) {
  const found = await attempt(() => Promise.all([get('/admin/storage'), get('/admin/backups')]));
  if (!found) return body.replaceChildren(paragraph(pageWords.noServer));
  const [storage, backups] = found;
  return body.replaceChildren(gauge(storage), backupCard(backups, {all: true}), cleaningCard(storage, body));
}

/** The picture of the stick, what takes how much of it, and what to worry about. */
export function gauge(storage) {
  const parts = partsOf(storage);
  const about = paragraph(words.freeOf(sizeInWords(storage.disk.free), sizeInWords(storage.disk.total)), 'gauge-free');
  const outlook = paragraph(storage.days_left === null ? words.noPace : words.daysLeft(storage.days_left));
  const bar = make('span', {className: 'gauge-bar'}, ...parts.filter(part => part.bytes && part.name !== 'free').map(part => barPart(part, storage)));
  const picture = make('div', {className: 'gauge', 'aria-hidden': 'true'}, make('span', {className: 'gauge-plug'}), make('span', {className: 'gauge-body'}, bar));
  const legend = make('ul', {className: 'gauge-legend'}, ...parts.map(({name, bytes}) => (
    make('li', {}, make('span', {className: `gauge-mark ${name}`}), words.storage[name], ' ', make('b', {}, sizeInWords(bytes))))));
  const warnings = storage.warnings.map(text => make('p', {className: 'admin-warning'}, icon('warn', 17), text));
  const box = card(words.stick, [picture, legend, ...warnings], make('div', {className: 'gauge-head'}, about, outlook));
  box.classList.add('stick');
  return box;
}

function partsOf({disk, images, files, messages}) {
  const own = images.bytes + files.bytes + messages.bytes;
  const sizes = {images: images.bytes, files: files.bytes, messages: messages.bytes, other: Math.max(0, disk.total - disk.free - own), free: disk.free};
  return Object.entries(sizes).map(([name, bytes]) => ({name, bytes}));
}

/* The style sheet makes the part as wide as --share says. */
function barPart({name, bytes}, {disk}) {
  const part = make('span', {className: name});
  part.style.setProperty('--share', bytes / disk.total);
  return part;
}

/** The backups there are, and the button for another; `all` lists each. */
export function backupCard(state, {all = false} = {}) {
  const [last] = state.backups;
  const start = button(state.running ? words.backingUp : words.backUpNow, () => backUp(box, all), {picture: 'stick'});
  start.disabled = state.running;
  const box = card(all ? words.backups : words.backup, [
    paragraph(last ? words.lastBackup(whenInWords(last.created_at), sizeInWords(last.size)) : words.noBackup, ''),
    state.problem ? make('p', {className: 'admin-warning'}, icon('warn', 17), words.backupProblem(state.problem)) : null,
    paragraph(words.backupPlace(state.folder), 'muted place'),
    paragraph(state.hours ? words.backupEvery(state.hours) : words.backupByHand),
    make('div', {className: 'admin-buttons'}, start),
    ...(all ? state.backups.map(one => listRow(one.name, `${whenInWords(one.created_at)}, ${sizeInWords(one.size)}`)) : []),
    all && last ? paragraph(words.restoreHint) : null,
  ]);
  return box;
}

async function backUp(box, all) {
  let state = await attempt(() => post('/admin/backup'));
  let here = box;
  while (state) {
    const next = backupCard(state, {all});
    here.replaceWith(next);
    here = next;
    if (!state.running) break;
    await new Promise(resolve => setTimeout(resolve, LOOK_AGAIN));
    if (!here.isConnected) return;
    state = await attempt(() => get('/admin/backups'));
  }
  if (state && !state.problem) toast(words.backupMade, {name: 'stick'});
}

function cleaningCard({cleaned}, body) {
  const last = cleaned && !cleaned.dry_run ? paragraph(words.lastCleaned(words.wentNow(cleaned, sizeInWords))) : null;
  return card(words.cleaning, [
    paragraph(words.cleaningLead), last, make('div', {className: 'admin-buttons'}, button(words.rehearse, () => rehearse(body), {picture: 'trash'})),
  ]);
}

async function rehearse(body) {
  const plan = await attempt(() => post('/admin/clean', {dry_run: true}));
  if (!plan) return;
  if (!plan.files && !plan.messages) return void toast(words.nothingToClean, {name: 'info'});
  const text = [words.wouldGo(plan, sizeInWords), plan.waiting ? words.clockDoubtful : ''].join(' ').trim();
  if (!await ask(words.cleanQuestion, text, words.cleanNow, {danger: true})) return;
  const done = await attempt(() => post('/admin/clean', {sure: plan.waiting}));
  if (done) toast(words.wentNow(done, sizeInWords), {name: 'trash'});
  await fillStorage(body);
}
