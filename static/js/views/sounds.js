/** The sounds, made on the spot: no file has to be fetched. */
import {preference} from '../core/preferences.js';

/* Each voice: its wave, how long (s) a note rings, and overtones as [times the pitch, part of the loudness]. */
const VOICES = {
  bell: {wave: 'sine', length: .9, overtones: [[1, 1], [2.76, .35], [5.4, .12]]},
  wood: {wave: 'triangle', length: .16, overtones: [[1, 1], [3.9, .25]]},
  drop: {wave: 'sine', length: .3, overtones: [[1, 1]], glide: 1.9},
};
const SIREN = {wave: 'square', length: .17, overtones: [[1, 1], [2, .4]]};

/* Each sound: its notes as [start in s, pitch in Hz]. */
const SOUNDS = {
  message: [[0, 587]],
  mention: [[0, 659], [.16, 988]],
  call: [[0, 523], [.2, 659], [.4, 784], [1.1, 523], [1.3, 659], [1.5, 784]],
  alarm: [[0, 880], [.18, 660], [.36, 880], [.54, 660], [.72, 880], [.9, 660]],
};

export const NORMAL_VOLUME = 60;

let context = null;

/** Plays the sound of a 'message', a 'mention' or a 'call' in the voice and as loud as the person chose. */
export function playSound(name) {
  return play(name, VOICES[preference('sound_voice', 'bell')] || VOICES.bell, preference('sound_volume', NORMAL_VOLUME) / 100);
}

/** Plays what nobody may miss, as loud as can be, whatever the person chose. */
export const playAlarm = () => play('alarm', SIREN, 1);

async function play(name, voice, volume) {
  const Context = window.AudioContext || window.webkitAudioContext;
  if (!Context || !volume) return;
  context = context || new Context();
  if (context.state === 'suspended') await context.resume();
  for (const [start, pitch] of SOUNDS[name]) playNote(voice, context.currentTime + start, pitch, volume);
}

function playNote({wave, length, overtones, glide = 1}, start, pitch, volume) {
  for (const [times, loudness] of overtones) {
    const oscillator = context.createOscillator();
    const gain = context.createGain();
    oscillator.type = wave;
    oscillator.frequency.setValueAtTime(pitch * times, start);
    oscillator.frequency.exponentialRampToValueAtTime(pitch * times * glide, start + length);
    /* Loudness is felt by its square; a ramp from and to almost nothing avoids a click. */
    gain.gain.setValueAtTime(.0001, start);
    gain.gain.exponentialRampToValueAtTime(Math.max(.0002, .4 * loudness * volume ** 2), start + .01);
    gain.gain.exponentialRampToValueAtTime(.0001, start + length);
    oscillator.connect(gain).connect(context.destination);
    oscillator.start(start);
    oscillator.stop(start + length);
  }
}
