/** Records the microphone: level and time while it runs, then one can listen before it is sent. */
import {find, icon, label, make} from '../core/dom.js';
import {withLength} from '../core/webm.js';
import {mediaWords} from '../text/media-words.js';
import {drawPlayer, playAlone} from './player.js';
import {BARS, drawWave, flatBars, loudnessOf} from './wave.js';

const TYPES = ['audio/mp4;codecs=mp4a.40.2', 'audio/webm;codecs=opus', 'audio/ogg;codecs=opus', 'audio/mp4'];
const ENDINGS = {mp4: 'm4a', ogg: 'ogg', webm: 'webm'};
const LOOK_EVERY = 100;
/* Speech is quiet: so much of the full range fills a bar. */
const FULL_BAR = 0.15;
const LEAST_SECONDS = 0.3;

/**
 * Starts recording into `element`, for at most `longest` seconds. Returns {element, stop(), discard()}.
 * `onSend(file)` and `onDiscard()` hear what the person decides; raises what the browser says of the microphone.
 */
export async function startRecording(longest, onSend, onDiscard) {
  const stream = await navigator.mediaDevices.getUserMedia({audio: true});
  const type = TYPES.find(one => MediaRecorder.isTypeSupported(one));
  const recorder = new MediaRecorder(stream, {...(type ? {mimeType: type} : {}), audioBitsPerSecond: 48000});
  const take = {stream, recorder, longest, onSend, onDiscard, pieces: [], bars: flatBars(), seconds: 0, since: performance.now()};
  take.element = make('div', {className: 'recorder', role: 'group', 'aria-label': mediaWords.recording});
  recorder.addEventListener('dataavailable', event => take.pieces.push(event.data));
  listenTo(take);
  recorder.start(1000);
  drawRunning(take);
  take.timer = setInterval(look, LOOK_EVERY, take);
  return {element: take.element, stop: () => finish(take), discard: () => discard(take)};
}

function listenTo(take) {
  take.context = new AudioContext();
  take.context.resume();
  take.analyser = take.context.createAnalyser();
  take.samples = new Float32Array(take.analyser.fftSize);
  take.context.createMediaStreamSource(take.stream).connect(take.analyser);
}

const secondsOf = take => take.seconds + (take.recorder.state === 'recording' ? (performance.now() - take.since) / 1000 : 0);

function look(take) {
  if (take.recorder.state !== 'recording') return;
  take.analyser.getFloatTimeDomainData(take.samples);
  take.bars = [...take.bars.slice(1 - BARS), Math.min(1, loudnessOf(take.samples) / FULL_BAR)];
  find('.wave', take.element).replaceWith(drawWave(take.bars));
  find('.play-time', take.element).textContent = mediaWords.timeOf(secondsOf(take), take.longest);
  if (secondsOf(take) >= take.longest) preview(take);
}

function tool(className, name, text, run) {
  const button = make('button', {type: 'button', className}, icon(name, 20));
  label(button, text);
  button.addEventListener('click', run);
  return button;
}

const discardTool = take => tool('tool', 'trash', mediaWords.discardRecording, () => discard(take));
const sendTool = take => tool('send', 'send', mediaWords.sendRecording, () => send(take));

function drawRunning(take) {
  const running = take.recorder.state === 'recording';
  const state = make('span', {className: `record-state${running ? ' running' : ''}`, role: 'status'}, running ? mediaWords.recording : mediaWords.recordingPaused);
  const hold = running ? tool('tool hold', 'pause', mediaWords.pauseRecording, () => pause(take)) : tool('tool hold', 'mic', mediaWords.goOnRecording, () => goOn(take));
  take.element.replaceChildren(discardTool(take), state, make('span', {className: 'wave-frame'}, drawWave(take.bars)),
    make('span', {className: 'play-time'}, mediaWords.timeOf(secondsOf(take), take.longest)),
    hold, tool('tool listen', 'check', mediaWords.listenFirst, () => preview(take)), sendTool(take));
}

function pause(take) {
  take.seconds = secondsOf(take);
  take.recorder.pause();
  drawRunning(take);
  find('.hold', take.element).focus();
}

function goOn(take) {
  take.since = performance.now();
  take.recorder.resume();
  drawRunning(take);
  find('.hold', take.element).focus();
}

/* Ends the recording once, and resolves to its file; null when there is nothing in it. */
function finish(take) {
  if (!take.finished) take.finished = end(take);
  return take.finished;
}

async function end(take) {
  take.seconds = secondsOf(take);
  await stopped(take);
  const [, kind] = /\/(\w+)/.exec(take.recorder.mimeType) || [];
  let bytes = new Uint8Array(await new Blob(take.pieces).arrayBuffer());
  if (kind === 'webm') bytes = withLength(bytes, take.seconds);
  if (!bytes.length || take.seconds < LEAST_SECONDS) return null;
  return new File([bytes], mediaWords.fileName(new Date(), ENDINGS[kind] || kind), {type: take.recorder.mimeType});
}

function stopped(take) {
  clearInterval(take.timer);
  return new Promise(resolve => {
    take.recorder.addEventListener('stop', resolve, {once: true});
    take.recorder.stop();
    for (const track of take.stream.getTracks()) track.stop();
    take.context.close();
  });
}

async function preview(take) {
  const file = await finish(take);
  if (!file) return send(take);
  take.address = URL.createObjectURL(file);
  take.element.replaceChildren(discardTool(take), drawPlayer({name: file.name, url: take.address, seconds: take.seconds, size: file.size, read: () => file.arrayBuffer()}), sendTool(take));
  find('.play', take.element).focus();
}

async function send(take) {
  const file = await finish(take);
  forget(take);
  take.onSend(file);
}

async function discard(take) {
  await finish(take);
  forget(take);
  take.onDiscard();
}

function forget(take) {
  playAlone(null);
  take.element.remove();
  if (take.address) URL.revokeObjectURL(take.address);
}
