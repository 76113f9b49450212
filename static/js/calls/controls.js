/** The row of controls below the stage, and what its last button opens. */
import {find, icon, label, make} from '../core/dom.js';
import {state, tell} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {openMenu} from '../views/menu.js';
import {toast} from '../views/toast.js';
import {active} from './active.js';
import {openInvite} from './invite.js';
import {leaveCall} from './joining.js';
import {copyReport} from './report.js';
import {raiseHand, setCamera, setMuted, setSharing} from './showing.js';

/* Each: `look()` gives [icon, caption, what a press does, whether it stands out as 'off' or 'on']. */
const CONTROLS = [
  {name: 'mute', run: () => setMuted(!active.marks.muted), look: ({muted}) => (muted ? ['micoff', words.unmute, `${words.unmute}. ${words.holdToTalk}`, 'off'] : ['mic', words.mute, words.mute, ''])},
  {name: 'camera', run: () => setCamera(!active.marks.camera), look: ({camera}) => [camera ? 'video' : 'videooff', words.camera, camera ? words.cameraOff : words.cameraOn, camera ? '' : 'off']},
  {name: 'share', run: () => setSharing(!active.marks.sharing), look: ({sharing}) => ['screen', words.share, sharing ? words.shareOff : words.shareOn, sharing ? 'on' : '']},
  {name: 'hand', run: () => raiseHand(!active.marks.hand), look: ({hand}) => ['hand', words.hand, hand ? words.handDown : words.handUp, hand ? 'on' : '']},
  {name: 'invite', may: () => state.me.role !== 'guest', run: () => openInvite(), look: () => ['userplus', words.invite, words.inviteTitle, '']},
  {name: 'more', run: button => openMore(button), look: () => ['more', words.more, words.more, '']},
  {name: 'leave', run: () => leaveCall(), look: () => ['hangup', words.leave, words.leaveCall, '']},
];

/** Draws the controls into `root`; those that are there stay, and with them the focus. */
export function drawControls(root) {
  if (!root.children.length) root.append(...CONTROLS.map(makeControl));
  for (const {name, look, may = () => true} of CONTROLS) {
    const button = find(`.call-control.${name}`, root);
    button.hidden = !may();
    drawControl(button, ...look(active.marks));
  }
}

function makeControl({name, run}) {
  const button = make('button', {type: 'button', className: `call-control ${name}`, 'data-control': name}, make('span', {className: 'control-icon'}), make('span', {className: 'control-caption'}));
  if (name === 'mute') button.append(make('meter', {className: 'own-level', min: 0, max: 1, value: 0, 'aria-label': words.level}));
  if (name === 'more') button.setAttribute('aria-haspopup', 'menu');
  button.addEventListener('click', () => run(button));
  return button;
}

function drawControl(button, drawing, caption, text, look) {
  if (button.dataset.drawn === [drawing, caption, text, look].join()) return;
  button.dataset.drawn = [drawing, caption, text, look].join();
  find('.control-icon', button).replaceChildren(icon(drawing, 22));
  find('.control-caption', button).textContent = caption;
  button.dataset.look = look;
  label(button, text);
}

function openMore(button) {
  openMenu(button, words.more, [
    {icon: 'gear', label: words.devices, run: () => tell('show-settings', 'sound')},
    {icon: 'copy', label: words.copyReport, run: copy},
  ]);
}

async function copy() {
  await copyReport();
  toast(words.reportCopied);
}
