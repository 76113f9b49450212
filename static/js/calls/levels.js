/** Who speaks: one's own level from the microphone, that of the others from what arrives. */
import {find, findAll} from '../core/dom.js';
import {state} from '../core/state.js';
import {loudnessOf} from '../views/wave.js';
import {active} from './active.js';
import {own} from './media.js';

const LOOK_EVERY = 120;
/* Speech is quiet: so much of the full range fills the bar, and so much of it counts as speaking, for so long (ms) after. */
const FULL = .2;
const SPEAKING = .02;
const HOLD = 700;

/** Measures a track: `level()` from 0 to 1, `close()`. */
export function meterOf(track) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  const samples = new Float32Array(analyser.fftSize);
  context.resume();
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  return {
    track,
    level: () => { analyser.getFloatTimeDomainData(samples); return loudnessOf(samples); },
    close: () => context.close(),
  };
}

/** Shows the levels on the stage until what it gives is called. */
export function startLevels(stage) {
  const ears = {meter: null, spoken: new Map()};
  const timer = setInterval(look, LOOK_EVERY, stage, ears);
  return () => {
    clearInterval(timer);
    if (ears.meter) ears.meter.close();
  };
}

function look(stage, ears) {
  if (!active.call) return;
  const level = ownLevel(ears);
  find('.own-level', stage).value = Math.min(1, level / FULL);
  const loud = [...active.mesh.peers.values()].filter(peer => levelOf(peer) > SPEAKING).map(peer => peer.userId);
  const now = performance.now();
  for (const userId of level > SPEAKING ? [...loud, state.me.id] : loud) ears.spoken.set(userId, now);
  for (const tile of findAll('.call-tile.camera', stage)) mark(tile, now - (ears.spoken.get(Number(tile.dataset.user)) || -HOLD) < HOLD);
}

/* The track changes with the device; a muted one is silence. */
function ownLevel(ears) {
  if (ears.meter && ears.meter.track !== own.microphone) {
    ears.meter.close();
    ears.meter = null;
  }
  if (!ears.meter && own.microphone) ears.meter = meterOf(own.microphone);
  return ears.meter ? ears.meter.level() : 0;
}

function levelOf({receivers}) {
  if (!receivers || !receivers.microphone.getSynchronizationSources) return 0;
  return Math.max(0, ...receivers.microphone.getSynchronizationSources().map(source => source.audioLevel || 0));
}

function mark(tile, speaks) {
  tile.classList.toggle('speaking', speaks);
  find('.tile-speaking', tile).hidden = !speaks;
}
