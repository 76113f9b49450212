/** Inviting others to a call that goes on. */
import {post} from '../core/api.js';
import {make} from '../core/dom.js';
import {apply} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';
import {openDialog} from '../views/dialog.js';
import {everybodyBut, peoplePicker} from '../views/people.js';
import {attempt} from '../views/toast.js';
import {active} from './active.js';

/** Opens the list of people to ring. */
export function openInvite() {
  const inCall = active.call.participants.filter(one => ['joined', 'ringing'].includes(one.state)).map(one => one.user_id);
  const ring = make('button', {type: 'button', className: 'button primary', disabled: true}, words.ring);
  const picker = peoplePicker(everybodyBut(inCall), {onChange: count => { ring.disabled = !count; }});
  const dialog = openDialog(words.inviteTitle, make('div', {className: 'stack'}, picker.element, make('div', {className: 'form-buttons'}, ring)));
  ring.addEventListener('click', () => invite(dialog, picker.chosen()));
}

async function invite(dialog, people) {
  if (!active.call) return dialog.close();
  const answer = await attempt(() => post(`/calls/${active.call.id}/invite`, {users: people}));
  if (!answer) return null;
  apply({kind: 'call', value: answer.call});
  return dialog.close();
}
