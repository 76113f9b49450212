/** What others need to come in: the address, as text and as a QR code, and an invitation's code where one was made. */
import {copyText, fill, find, icon, make, setSlot, slot} from '../core/dom.js';
import {joiningWords as words} from '../text/joining-words.js';
import {toast} from './toast.js';

/** The QR code of the address, with an invitation's code in it if there is one; it goes where the server has none to give. */
function qrPicture(address, code = '') {
  const source = code ? `/qr.svg?code=${encodeURIComponent(code)}` : '/qr.svg';
  const picture = make('img', {className: 'qr', src: source, alt: words.qrLabel(address), width: 168, height: 168});
  picture.addEventListener('error', () => picture.remove());
  return picture;
}

/** The sheet that is shown and printed for what `GET /joining` said of a place. */
export function invitationSheet(place, {address, certificate}, code = '') {
  if (!address) return make('div', {className: 'invitation alone'}, make('p', {}, make('b', {}, words.alone), ' ', words.aloneHow));
  const steps = certificate === 'own' ? [...words.steps, words.stepPastWarning] : words.steps;
  const sheet = fill('invitation', {
    title: words.joinPlace(place), qr: qrPicture(address, code), address, code: code || null,
    steps: steps.map(step => make('li', {}, step)),
  });
  slot(sheet, 'code-line').hidden = !code;
  setSlot(sheet, 'code-label', words.code);
  setSlot(sheet, 'buttons', [
    button(code ? 'link' : 'copy', code ? words.copyLink : words.copyAddress, () => copy(code ? `${address}/#/join/${code}` : address)),
    button('file', words.print, () => window.print()),
  ]);
  return sheet;
}

function button(name, text, run) {
  const element = make('button', {type: 'button', className: 'button small secondary'}, icon(name, 16), text);
  element.addEventListener('click', run);
  return element;
}

async function copy(text) {
  await copyText(text);
  toast(words.copied, {name: 'copy'});
}

/** Draws, on the page for those who are not signed in, how to come here from a phone and what a warning means. */
export function showJoining(page, {address, certificate}) {
  if (address) setSlot(page, 'from-phone', fill('from-phone', {
    qr: qrPicture(address), title: words.fromPhone, how: words.fromPhoneHow, address: address.replace(/^https?:\/\//, ''),
  }));
  if (certificate === 'operator') return;
  const isPlain = certificate === 'none';
  const notice = fill('trust-notice', {
    title: isPlain ? words.plain : words.warned, why: isPlain ? words.plainWhy : words.warnedWhy,
    link: isPlain ? words.whatItMeans : words.howToTrust,
  });
  find('a', notice).href = '/trust';
  setSlot(page, 'trust', notice);
}
