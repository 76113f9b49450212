/** What went wrong in a call, in a sentence each, with the way out. */
import {icon, label, make} from '../core/dom.js';
import {callWords as words} from '../text/call-words.js';
import {toast} from '../views/toast.js';
import {active, setTrouble} from './active.js';
import {copyReport} from './report.js';
import {hearAll} from './voices.js';

/** Draws the troubles into `root`. */
export function drawTroubles(root) {
  const drawn = JSON.stringify([...active.troubles]);
  if (root.dataset.drawn === drawn) return;
  root.dataset.drawn = drawn;
  root.replaceChildren(...[...active.troubles].map(([name, text]) => (name === 'autoplay' ? hearButton() : notice(name, text))));
}

function hearButton() {
  const button = make('button', {type: 'button', className: 'call-hear'}, icon('bell', 18), words.tapToHear);
  button.addEventListener('click', hearAll);
  return button;
}

function notice(name, text) {
  const close = make('button', {type: 'button', className: 'icon-button'}, icon('x', 16));
  label(close, words.dismiss);
  close.addEventListener('click', () => setTrouble(name));
  return make('div', {className: 'call-trouble', role: 'alert', 'data-trouble': name}, icon('warn', 18), make('p', {className: 'grow'}, text), name === 'apart' ? reportButton() : null, close);
}

function reportButton() {
  const button = make('button', {type: 'button', className: 'call-report'}, words.copyReport);
  button.addEventListener('click', async () => { await copyReport(); toast(words.reportCopied); });
  return button;
}
