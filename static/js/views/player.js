/** A player for sound: play, a wave in which one can seek, time, speed. Of all sound and film one plays at a time. */
import {find, icon, label, make} from '../core/dom.js';
import {mediaWords} from '../text/media-words.js';
import {BARS, drawWave, flatBars, measureSound} from './wave.js';

const SPEEDS = [1, 1.5, 2];
/* Larger files show no wave: for it all of them would have to be fetched. */
const MOST_MEASURED = 3e6;

const now = {playing: null, speed: 1};

/** Stops what plays, other than `media`. */
export function playAlone(media) {
  if (now.playing && now.playing !== media) now.playing.pause();
  now.playing = media;
}

/** The element of a player for {name, url, seconds, size, read?()}; `read` gives the bytes where the address cannot be fetched. */
export function drawPlayer({name, url, seconds, size, read = () => fetchBytes(url)}, onFailure = () => {}) {
  const sound = new Audio();
  const play = make('button', {type: 'button', className: 'play'});
  const seek = make('input', {type: 'range', min: 0, max: 1, step: 'any', value: 0, className: 'seek', 'aria-label': mediaWords.position});
  const frame = make('span', {className: 'wave-frame'}, drawWave(flatBars()), seek);
  const element = make('div', {className: 'player', role: 'group', 'aria-label': name}, play, frame, make('span', {className: 'play-time'}), speedButton(sound));
  const player = {element, sound, seconds: seconds || 0};
  Object.assign(sound, {preload: 'none', src: url});
  play.addEventListener('click', () => toggle(sound));
  seek.addEventListener('input', () => seekTo(player, Number(seek.value)));
  for (const kind of ['play', 'pause', 'timeupdate', 'durationchange', 'ended']) sound.addEventListener(kind, () => show(player));
  sound.addEventListener('play', () => playAlone(sound));
  sound.addEventListener('error', onFailure);
  show(player);
  if (size <= MOST_MEASURED) whenSeen(element, () => measure(player, read));
  return element;
}

async function fetchBytes(url) {
  return (await fetch(url)).arrayBuffer();
}

function toggle(sound) {
  if (!sound.paused) return sound.pause();
  sound.playbackRate = now.speed;
  /* A refusal comes as an `error` event too. */
  sound.play().catch(() => {});
}

function speedButton(sound) {
  const button = make('button', {type: 'button', className: 'speed'});
  const say = () => {
    button.textContent = mediaWords.rate(now.speed);
    label(button, mediaWords.speed(now.speed));
  };
  button.addEventListener('click', () => {
    now.speed = SPEEDS[(SPEEDS.indexOf(now.speed) + 1) % SPEEDS.length];
    sound.playbackRate = now.speed;
    say();
  });
  sound.addEventListener('play', say);
  say();
  return button;
}

/* Recorders may leave the length out; then what was measured counts. */
function lengthOf({sound, seconds}) {
  return Number.isFinite(sound.duration) && sound.duration > 0 ? sound.duration : seconds;
}

function seekTo(player, part) {
  const {sound} = player;
  const at = part * lengthOf(player);
  if (sound.readyState) sound.currentTime = at;
  else {
    sound.addEventListener('loadedmetadata', () => { sound.currentTime = at; }, {once: true});
    sound.preload = 'auto';
    sound.load();
  }
  showPlace(player, part, at);
}

function show(player) {
  const {element, sound} = player;
  const length = lengthOf(player);
  const play = find('.play', element);
  play.replaceChildren(icon(sound.paused ? 'play' : 'pause', 18));
  label(play, sound.paused ? mediaWords.play : mediaWords.pause);
  if (!sound.seeking) showPlace(player, length ? Math.min(1, sound.currentTime / length) : 0, sound.currentTime);
}

function showPlace({element, sound, seconds}, part, at) {
  const length = lengthOf({sound, seconds});
  const seek = find('.seek', element);
  seek.value = part;
  seek.setAttribute('aria-valuetext', mediaWords.positionOf(at, length));
  find('.wave-frame', element).style.setProperty('--played', `${100 * part}%`);
  find('.play-time', element).textContent = length ? mediaWords.timeOf(at, length) : mediaWords.playTime(at);
}

function whenSeen(element, run) {
  const observer = new IntersectionObserver(entries => {
    if (!entries.some(entry => entry.isIntersecting)) return;
    observer.disconnect();
    run();
  });
  observer.observe(element);
}

/* Without a wave one can still listen: some formats play that cannot be decoded as a whole. */
async function measure(player, read) {
  try {
    const {seconds, bars} = await measureSound(await read());
    player.seconds = player.seconds || seconds;
    find('.wave', player.element).replaceWith(drawWave(bars.slice(0, BARS)));
    show(player);
  } catch (error) {
    player.element.classList.add('no-wave');
  }
}
