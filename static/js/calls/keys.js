/** The keys of a call; Space held down opens a muted microphone. */
import {listen} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {addShortcut} from '../views/shortcuts.js';
import {active} from './active.js';
import {leaveCall} from './joining.js';
import {raiseHand, setCamera, setMuted, setSharing} from './showing.js';

const CONTROLS = 'input, textarea, select, button, a[href], summary, [contenteditable], [role=menuitem], [role=option]';

let talking = false;

/** Adds the keys; call once. */
export function startKeys({toggleSize}) {
  const may = () => Boolean(active.call);
  const {keys} = words;
  const TABLE = [
    {keys: 'Alt+M', label: keys.mute, run: () => setMuted(!active.marks.muted)},
    {keys: 'Alt+V', label: keys.camera, run: () => setCamera(!active.marks.camera)},
    {keys: 'Alt+S', label: keys.share, run: () => setSharing(!active.marks.sharing)},
    {keys: 'Alt+H', label: keys.hand, run: () => raiseHand(!active.marks.hand)},
    {keys: 'Alt+C', label: keys.size, run: toggleSize},
    {keys: 'Alt+Shift+L', label: keys.leave, run: leaveCall},
    {keys: 'Space', label: keys.talk, run: null},
  ];
  for (const one of TABLE) addShortcut({group: 'calls', may, ...one});
  document.addEventListener('keydown', talk);
  document.addEventListener('keyup', event => event.key === ' ' && hush());
  addEventListener('blur', hush);
  listen('own-call', call => call || hush());
}

/* On a control Space presses it, and in a text it is a space. */
function talk(event) {
  if (event.key !== ' ' || !active.call || event.target.closest(CONTROLS) || event.ctrlKey || event.altKey || event.metaKey) return;
  if (!talking && !active.marks.muted) return;
  event.preventDefault();
  if (talking || event.repeat) return;
  talking = true;
  setMuted(false);
}

function hush() {
  if (!talking) return;
  talking = false;
  if (active.call) setMuted(true);
}
