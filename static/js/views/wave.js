/** The shape of sound: measured by playing it silently, drawn as bars. */
import {drawingOf} from '../core/dom.js';

const SVG = 'http://www.w3.org/2000/svg';
const PITCH = 4;
const HEIGHT = 28;
const LEAST = 0.08;
/* Enough for a shape, and sparing with memory. */
const SAMPLE_RATE = 8000;

/** How many bars a wave has. */
export const BARS = 44;

/** The seconds that encoded sound lasts, and its loudness between 0 and 1 for each bar. Raises where it cannot be decoded. */
export async function measureSound(bytes) {
  const sound = await new OfflineAudioContext(1, 1, SAMPLE_RATE).decodeAudioData(bytes);
  return {seconds: sound.duration, bars: barsOf(sound.getChannelData(0))};
}

function barsOf(samples) {
  const step = samples.length / BARS;
  const loudness = Array.from({length: BARS}, (unused, index) => loudnessOf(samples.subarray(index * step, (index + 1) * step)));
  const most = Math.max(...loudness, 0.01);
  return loudness.map(value => value / most);
}

/** The root mean square of samples. */
export function loudnessOf(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.sqrt(sum / Math.max(1, samples.length));
}

/** A drawing of bars twice over each other: what was played, clipped by `--played`, above what was not. */
export function drawWave(bars) {
  const drawing = drawingOf(BARS * PITCH, HEIGHT, `0 0 ${BARS * PITCH} ${HEIGHT}`);
  drawing.classList.add('wave');
  drawing.append(pathOf(bars, 'rest'), pathOf(bars, 'played'));
  return drawing;
}

function pathOf(bars, name) {
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('class', name);
  path.setAttribute('d', bars.map(barAt).join(''));
  return path;
}

function barAt(loudness, index) {
  const half = Math.max(LEAST, loudness) * (HEIGHT / 2 - 2);
  return `M${index * PITCH + 2} ${(HEIGHT / 2 - half).toFixed(1)}v${(2 * half).toFixed(1)}`;
}

/** What is drawn while nothing is known of the sound. */
export const flatBars = () => new Array(BARS).fill(0);
