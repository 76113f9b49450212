/** Voice messages: a button in the composer, and what is recorded goes the way of every file. */
import {find, icon, label, make} from '../core/dom.js';
import {listen, state, tell} from '../core/state.js';
import {mediaWords} from '../text/media-words.js';
import {addTool, messageBox, submit} from '../views/composer.js';
import {toast} from '../views/toast.js';

const LONGEST_MINUTES = 5;

const voice = {recording: null, channelId: null, starting: false};

/* Browsers hide the microphone from plain HTTP. */
const obstacle = () => {
  if (!window.isSecureContext) return mediaWords.needsHttps;
  return navigator.mediaDevices && window.MediaRecorder && window.AudioContext ? '' : mediaWords.cannotRecord;
};

listen('composer-drawn', addButton);
if (find('#composer')) addButton(find('#composer'));

/* What was begun in one channel must not be sent to the next. */
listen('route', () => voice.recording && state.channelId !== voice.channelId && keepForLater());

function addButton(form) {
  const button = make('button', {type: 'button', id: 'record', className: 'tool'}, icon('mic', 20));
  label(button, obstacle() || mediaWords.record);
  if (obstacle()) button.setAttribute('aria-disabled', 'true');
  button.addEventListener('click', record);
  addTool(form, 'voice', button);
}

async function record() {
  if (obstacle()) return toast(obstacle(), {name: 'lock'});
  if (voice.starting || voice.recording) return;
  Object.assign(voice, {starting: true, channelId: state.channelId});
  try {
    const {startRecording} = await import('../views/recorder.js');
    show(await startRecording(LONGEST_MINUTES * 60, send, hide));
  } catch (error) {
    const {microphoneTrouble} = mediaWords;
    toast(microphoneTrouble[error.name] || microphoneTrouble.other, {name: 'warn'});
  } finally {
    voice.starting = false;
  }
}

/* Asking for the microphone takes as long as a person takes: the channel may be another by now. */
function show(recording) {
  voice.recording = recording;
  if (state.channelId !== voice.channelId || !find('#composer')) return recording.discard();
  const box = find('#composer .composer-box');
  box.classList.add('recording');
  box.append(recording.element);
  find('.hold', recording.element).focus();
}

function hide() {
  voice.recording = null;
  const box = find('.composer-box.recording');
  if (!box) return;
  box.classList.remove('recording');
  messageBox().focus();
}

function send(file) {
  hide();
  if (!file) return toast(mediaWords.nothingHeard, {name: 'info'});
  tell('attach-files', {channelId: voice.channelId, files: [file]});
  submit();
}

async function keepForLater() {
  const {recording, channelId} = voice;
  hide();
  const file = await recording.stop();
  recording.element.remove();
  if (!file) return;
  tell('attach-files', {channelId, files: [file]});
  toast(mediaWords.recordingKept);
}
