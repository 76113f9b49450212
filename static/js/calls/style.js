/** The looks of calls, which come with them. */
import {make} from '../core/dom.js';

const SHEETS = ['/static/css/call.css', '/static/css/call-places.css'];

let style = null;

/** Resolves once calls look as they should, or cannot. */
export function styled() {
  style = style || Promise.all(SHEETS.map(load));
  return style;
}

function load(href) {
  return new Promise(resolve => {
    const link = make('link', {rel: 'stylesheet', href});
    link.addEventListener('load', resolve);
    link.addEventListener('error', () => { style = null; link.remove(); resolve(); });
    document.head.append(link);
  });
}
