/** The words of pictures, sound, film, voice messages and previews. */
import {VOICE_NAME} from './measures.js';

const clock = seconds => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;

export const mediaWords = {
  playTime: clock,
  timeOf: (at, length) => `${clock(at)} / ${clock(length)}`,
  positionOf: (at, length) => `${clock(at)} of ${clock(length)}`,
  play: 'Play',
  pause: 'Pause',
  position: 'Position',
  speed: rate => `Speed: ${rate}×`,
  rate: rate => `${rate}×`,

  pictureOf: (number, count) => `${number} of ${count}`,
  byAt: (author, time) => `${author}, ${time}`,
  earlierPicture: 'Earlier picture',
  laterPicture: 'Later picture',
  zoomIn: 'Zoom in',
  zoomOut: 'Zoom out',
  download: 'Download',

  record: 'Record a voice message',
  recording: 'Recording',
  recordingPaused: 'Recording paused',
  pauseRecording: 'Pause recording',
  goOnRecording: 'Go on recording',
  listenFirst: 'Stop and listen',
  discardRecording: 'Discard the recording',
  sendRecording: 'Send voice message',
  recordingKept: 'The recording waits with your draft.',
  needsHttps: 'Voice messages need the secure address that begins with https.',
  cannotRecord: 'This browser cannot record.',
  microphoneTrouble: {
    NotAllowedError: 'The microphone is not allowed here. Allow it at the left of the address, then try again.',
    NotFoundError: 'No microphone was found.',
    NotReadableError: 'Another program uses the microphone.',
    other: 'The microphone does not work.',
  },
  fileName: (at, ending) => {
    const two = number => String(number).padStart(2, '0');
    const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join('-');
    return `${VOICE_NAME} ${day} ${two(at.getHours())}-${two(at.getMinutes())}.${ending}`;
  },
  nothingHeard: 'Nothing was recorded.',

  hidePreview: 'Take this preview off',
};
