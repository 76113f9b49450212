/** Settings: which microphone, camera and speaker calls use, with a test of each. */
import {make} from '../core/dom.js';
import {callWords as words} from '../text/call-words.js';
import {isInCall} from '../calls/active.js';
import {drawDevices, drawPreview} from '../calls/choosing.js';
import {closeAll, obstacle, openDevices} from '../calls/media.js';
import {styled} from '../calls/style.js';
import {addSettingsSection} from '../views/settings.js';
import {switchRow} from '../views/setting-controls.js';
import {playSound} from '../views/sounds.js';

addSettingsSection({name: 'sound', icon: 'mic', label: words.devices, order: 35, draw});

async function draw(body) {
  await styled();
  if (!body.isConnected) return;
  const place = make('div', {className: 'stack'});
  const choices = make('div', {className: 'stack sound-settings'}, place, drawDevices(), soundButton());
  body.append(make('p', {className: 'lead'}, words.soundLead), choices, switchRow('call_ask', words.askBefore, words.askBeforeHint, true));
  if (obstacle()) place.append(make('p', {className: 'form-note'}, obstacle()));
  else place.append(testButton(place));
}

/* The light of a camera goes on only when somebody asks for it. */
function testButton(place) {
  const button = make('button', {type: 'button', className: 'button secondary test-devices'}, words.testDevices);
  button.addEventListener('click', () => test(place));
  return button;
}

async function test(place) {
  const preview = drawPreview();
  const troubles = make('div', {className: 'before-troubles', role: 'status'});
  const end = make('button', {type: 'button', className: 'button secondary'}, words.endTest);
  const stop = () => {
    if (!place.contains(preview.element)) return;
    preview.end();
    if (!isInCall()) closeAll();
    place.replaceChildren(testButton(place));
  };
  end.addEventListener('click', stop);
  whenGone(place, stop);
  place.replaceChildren(preview.element, make('p', {className: 'muted'}, words.saySomething), troubles, end);
  const failed = isInCall() ? {} : await openDevices(['microphone', 'camera']);
  troubles.replaceChildren(...Object.values(failed).map(text => make('p', {}, text)));
  if (!place.isConnected) stop();
}

/* Another section or the end of the dialog takes the test away. */
function whenGone(element, act) {
  const watch = new MutationObserver(() => {
    if (element.isConnected) return;
    watch.disconnect();
    act();
  });
  watch.observe(document.body, {childList: true, subtree: true});
}

function soundButton() {
  const button = make('button', {type: 'button', className: 'button secondary'}, words.playSound);
  button.addEventListener('click', () => playSound('call'));
  return button;
}
