/** Looking closer at a picture: by wheel, pinch, double press and keys; dragging moves it. */

const MOST = 8;
const CLOSE = 2.5;
const WHEEL = 0.0016;
const SWIPE = 60;

/**
 * Lets a picture be zoomed within its stage. Returns {by(factor), reset()}.
 * `onSwipe(step)` hears a sideways stroke over a picture that is not enlarged: 1 is the next, -1 the one before.
 */
export function zoomable(stage, image, onSwipe) {
  const view = {scale: 1, x: 0, y: 0, pointers: new Map(), from: null, stage, image, onSwipe};
  stage.addEventListener('wheel', event => {
    event.preventDefault();
    zoomAt(view, Math.exp(-event.deltaY * WHEEL), event.clientX, event.clientY);
  }, {passive: false});
  stage.addEventListener('dblclick', event => zoomAt(view, view.scale > 1 ? 1 / view.scale : CLOSE, event.clientX, event.clientY));
  stage.addEventListener('pointerdown', event => onDown(view, event));
  stage.addEventListener('pointermove', event => onMove(view, event));
  /* Chromium would take the stroke for a fling, although touch-action forbids it, and the next tap for its end. */
  stage.addEventListener('touchmove', event => event.preventDefault(), {passive: false});
  for (const kind of ['pointerup', 'pointercancel']) stage.addEventListener(kind, event => onUp(view, event));
  return {by: factor => zoomAt(view, factor, ...middleOf(stage)), reset: () => place(view, 1, 0, 0)};
}

function middleOf(element) {
  const {left, top, width, height} = element.getBoundingClientRect();
  return [left + width / 2, top + height / 2];
}

/* What lies under the point stays under it. */
function zoomAt(view, factor, clientX, clientY) {
  const scale = Math.min(MOST, Math.max(1, view.scale * factor));
  const [middleX, middleY] = middleOf(view.stage);
  const moved = scale / view.scale;
  const x = clientX - middleX;
  const y = clientY - middleY;
  place(view, scale, x - (x - view.x) * moved, y - (y - view.y) * moved);
}

/* No edge of the picture comes further in than the middle of the stage's free room. */
function place(view, scale, x, y) {
  const {image, stage} = view;
  const roomX = Math.max(0, (image.offsetWidth * scale - stage.clientWidth) / 2);
  const roomY = Math.max(0, (image.offsetHeight * scale - stage.clientHeight) / 2);
  Object.assign(view, {scale, x: Math.min(roomX, Math.max(-roomX, x)), y: Math.min(roomY, Math.max(-roomY, y))});
  image.style.setProperty('--zoom', scale);
  image.style.setProperty('--x', `${view.x}px`);
  image.style.setProperty('--y', `${view.y}px`);
  stage.classList.toggle('enlarged', scale > 1);
}

function onDown(view, event) {
  if (event.button) return;
  view.stage.setPointerCapture(event.pointerId);
  view.pointers.set(event.pointerId, event);
  view.from = view.pointers.size === 1 ? event : null;
}

function onMove(view, event) {
  const before = view.pointers.get(event.pointerId);
  if (!before) return;
  const [other] = [...view.pointers.values()].filter(pointer => pointer.pointerId !== event.pointerId);
  view.pointers.set(event.pointerId, event);
  if (other) return pinch(view, before, event, other);
  if (view.scale > 1) place(view, view.scale, view.x + event.clientX - before.clientX, view.y + event.clientY - before.clientY);
}

function pinch(view, before, event, other) {
  const distance = one => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
  zoomAt(view, distance(event) / distance(before), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
}

function onUp(view, event) {
  const {from} = view;
  view.pointers.delete(event.pointerId);
  view.from = null;
  if (!from || view.scale > 1 || event.type === 'pointercancel') return;
  const across = event.clientX - from.clientX;
  if (Math.abs(across) > SWIPE && Math.abs(across) > Math.abs(event.clientY - from.clientY)) view.onSwipe(across < 0 ? 1 : -1);
}
