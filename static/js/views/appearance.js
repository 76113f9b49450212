/** Theme and text size: chosen for this device, drawn by the style sheet. */
import {find} from '../core/dom.js';
import {keepForDevice, keptForDevice} from '../core/store.js';

/** The choices as they are: theme `auto`, `light` or `dark`, and the root's text size in px. */
export function appearance() {
  return {theme: keptForDevice('theme') || 'auto', textSize: keptForDevice('text-size') || 16};
}

export function chooseTheme(theme) {
  keepForDevice('theme', theme === 'auto' ? null : theme);
  showAppearance();
}

export function chooseTextSize(size) {
  keepForDevice('text-size', size === 16 ? null : size);
  showAppearance();
}

/** Puts the choices on the root element, and the frame's colour on the browser's own bars. */
export function showAppearance() {
  const {theme, textSize} = appearance();
  const root = document.documentElement;
  if (theme === 'auto') delete root.dataset.theme;
  else root.dataset.theme = theme;
  root.dataset.textSize = textSize;
  find('meta[name="theme-color"]').content = getComputedStyle(root).getPropertyValue('--frame').trim();
}
