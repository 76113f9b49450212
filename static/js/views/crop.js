/** Cutting a square out of a picture: by dragging, by wheel and slider, by keys. */
import {ApiError} from '../core/api.js';
import {fill, find, make} from '../core/dom.js';
import {accountWords} from '../text/account-words.js';
import {sizeInWords} from '../text/measures.js';
import {openDialog} from './dialog.js';

const CANVAS = 560;
/* The sides (px) tried in turn until the picture is small enough. */
const SIDES = [512, 256, 128];
const QUALITY = .9;
const ZOOM = {least: 1, most: 4, step: .1};
const MOVES = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
const ZOOMS = {'+': 1, '=': 1, '-': -1};
/* One key moves by this part of what is in view. */
const NUDGE = .05;

/** Asks which square of an image file to take. Resolves to a picture of `most` bytes at most, or null; raises ApiError when the file is no image. */
export async function cropPicture(file, most) {
  const image = await readImage(file);
  const cut = {image, x: image.naturalWidth / 2, y: image.naturalHeight / 2, zoom: ZOOM.least};
  try {
    return await askForCut(cut) ? await encode(cut, most) : null;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

async function readImage(file) {
  const image = make('img', {src: URL.createObjectURL(file)});
  try {
    await image.decode();
    if (image.naturalWidth) return image;
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
  URL.revokeObjectURL(image.src);
  throw new ApiError(400, {error: accountWords.notAPicture(file.name)});
}

function askForCut(cut) {
  const body = fill('crop', {help: accountWords.cropHelp, zoom: accountWords.zoom, use: accountWords.usePicture});
  const canvas = find('canvas', body);
  const slider = find('input', body);
  Object.assign(canvas, {width: CANVAS, height: CANVAS});
  canvas.setAttribute('aria-label', accountWords.cropHelp);
  Object.assign(slider, {min: ZOOM.least, max: ZOOM.most, step: ZOOM.step, value: cut.zoom});
  const change = (dx, dy, zoom = cut.zoom) => {
    moveCut(cut, dx, dy, zoom);
    slider.value = cut.zoom;
    drawCut(cut, canvas);
  };
  slider.addEventListener('input', () => change(0, 0, Number(slider.value)));
  steer(canvas, cut, change);
  change(0, 0);
  return new Promise(resolve => {
    const dialog = openDialog(accountWords.cropTitle, body);
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'use'));
    find('.use', body).addEventListener('click', () => dialog.close('use'));
    find('.cancel', body).addEventListener('click', () => dialog.close());
    canvas.focus();
  });
}

function steer(canvas, cut, change) {
  const scale = () => sideOf(cut) / canvas.getBoundingClientRect().width;
  let held = null;
  canvas.addEventListener('pointerdown', event => {
    canvas.setPointerCapture(event.pointerId);
    held = event;
  });
  canvas.addEventListener('pointermove', event => {
    if (!held || event.pointerId !== held.pointerId) return;
    change((held.clientX - event.clientX) * scale(), (held.clientY - event.clientY) * scale());
    held = event;
  });
  canvas.addEventListener('lostpointercapture', () => { held = null; });
  canvas.addEventListener('wheel', event => {
    event.preventDefault();
    change(0, 0, cut.zoom - Math.sign(event.deltaY) * ZOOM.step);
  }, {passive: false});
  canvas.addEventListener('keydown', event => {
    const [dx, dy] = MOVES[event.key] || [0, 0];
    if (!MOVES[event.key] && !ZOOMS[event.key]) return;
    event.preventDefault();
    change(dx * NUDGE * sideOf(cut), dy * NUDGE * sideOf(cut), cut.zoom + (ZOOMS[event.key] || 0) * ZOOM.step);
  });
}

/* The side of the square in pixels of the image. */
const sideOf = ({image, zoom}) => Math.min(image.naturalWidth, image.naturalHeight) / zoom;
const between = (least, value, most) => Math.min(most, Math.max(least, value));

function moveCut(cut, dx, dy, zoom) {
  cut.zoom = between(ZOOM.least, zoom, ZOOM.most);
  const half = sideOf(cut) / 2;
  cut.x = between(half, cut.x + dx, cut.image.naturalWidth - half);
  cut.y = between(half, cut.y + dy, cut.image.naturalHeight - half);
}

function drawCut(cut, canvas) {
  const side = sideOf(cut);
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(cut.image, cut.x - side / 2, cut.y - side / 2, side, side, 0, 0, canvas.width, canvas.height);
}

/* Where a browser cannot write WebP it gives PNG instead. */
async function encode(cut, most) {
  for (const side of SIDES) {
    const canvas = make('canvas', {width: side, height: side});
    drawCut(cut, canvas);
    const picture = await new Promise(resolve => canvas.toBlob(resolve, 'image/webp', QUALITY));
    if (picture && picture.size <= most) return picture;
  }
  throw new ApiError(413, {error: accountWords.pictureTooLarge(sizeInWords(most))});
}
