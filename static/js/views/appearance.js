/** How the page looks by choice: theme, text size, density, motion; drawn by the style sheet. */
import {find} from '../core/dom.js';
import {preference} from '../core/preferences.js';
import {listen} from '../core/state.js';

/** The root's text size in px when nobody chose one. */
export const NORMAL_TEXT_SIZE = 16;

const SHOWN = {
  theme: () => preference('theme', ''),
  density: () => preference('density', ''),
  textSize: () => preference('text_size', NORMAL_TEXT_SIZE),
  motion: () => preference('reduce_motion', false) ? 'reduced' : '',
};

/** Shows the choices now and whenever one changes. */
export function startAppearance() {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showFrameColour);
  listen('preference', showAppearance);
  showAppearance();
}

function showAppearance() {
  const {dataset} = document.documentElement;
  for (const [name, chosen] of Object.entries(SHOWN)) {
    const value = String(chosen());
    if (value) dataset[name] = value;
    else delete dataset[name];
  }
  showFrameColour();
}

/* The browser's own bars continue the frame. */
function showFrameColour() {
  const frame = getComputedStyle(document.documentElement).getPropertyValue('--frame');
  find('meta[name="theme-color"]').content = frame.trim();
}
