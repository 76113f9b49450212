/** Animated images stand still, where one chose so or the device asks for less motion, until one points at them. */
import {find, findAll, make} from '../core/dom.js';
import {animatesImages} from '../core/preferences.js';
import {listen} from '../core/state.js';
import {messageOf} from '../views/rows.js';
import {onMessageDrawn} from '../views/message.js';

const MAY_MOVE = ['image/gif', 'image/webp'];

onMessageDrawn(stillAll);
listen('preference', () => {
  for (const article of findAll('#messages article')) stillAll(article, messageOf(article));
});

function stillAll(article, message) {
  for (const {type, url} of (message && message.files) || []) {
    const image = MAY_MOVE.includes(type) && find(`.picture img[src="${url}"]`, article);
    if (image) show(image);
  }
}

/* The first frame lies above the image; the style sheet takes it away under the pointer. */
function show(image) {
  const still = find('.still', image.parentElement);
  if (animatesImages()) return still && still.remove();
  if (still) return null;
  if (!image.complete || !image.naturalWidth) return image.addEventListener('load', () => show(image), {once: true});
  const canvas = make('canvas', {className: 'still', width: image.naturalWidth, height: image.naturalHeight});
  canvas.getContext('2d').drawImage(image, 0, 0);
  return image.after(canvas);
}
