/** Settings: inviting people, and for who runs the place the first steps once more. */
import {get, post} from '../core/api.js';
import {make} from '../core/dom.js';
import {state} from '../core/state.js';
import {joiningWords as words} from '../text/joining-words.js';
import {words as common} from '../text/words.js';
import {stayingForm} from '../views/form.js';
import {openGuide} from '../views/guide.js';
import {invitationSheet} from '../views/invitation.js';
import {addSettingsSection} from '../views/settings.js';
import {attempt} from '../views/toast.js';

const governs = () => ['owner', 'admin'].includes(state.me.role);

addSettingsSection({name: 'invite', icon: 'userplus', label: words.invite, order: 70, draw: drawInvite, may: () => state.me.role !== 'guest'});
addSettingsSection({name: 'guide', icon: 'flag', label: words.guide, order: 110, run: openGuide, may: governs});

const lead = text => make('p', {className: 'lead'}, text);

async function drawInvite(body) {
  const joining = await attempt(() => get('/joining'));
  if (!joining) return body.replaceChildren(lead(common.noServer));
  const sheet = make('div', {}, invitationSheet(state.settings.name, joining));
  body.replaceChildren(lead(whoMayCome()), sheet);
  if (governs()) body.append(...invitationForm(code => sheet.replaceChildren(invitationSheet(state.settings.name, joining, code))));
}

function whoMayCome() {
  const {registration} = state.settings;
  if (registration === 'closed' && !governs()) return words.noNewcomers;
  const text = words.inviteLead[registration];
  return registration === 'invite' && !governs() ? `${text} ${words.askAdministrator}` : text;
}

function invitationForm(show) {
  const made = make('p', {className: 'hint', role: 'status'});
  const form = stayingForm([select('uses', words.invitationFor, words.uses, '1'), select('hours', words.invitationValid, words.hours, '168')],
    words.makeInvitation, async ({uses, hours}) => {
      const {code} = await post('/admin/invites', {uses: Number(uses), hours: Number(hours)});
      show(code);
      made.replaceChildren(make('b', {className: 'mono'}, code), ` ${words.madeFor(uses, hours)}`);
    });
  form.classList.add('invitation-form');
  return [make('h3', {}, words.newInvitation), lead(words.newInvitationLead), form, made];
}

function select(name, label, labels, chosen) {
  const options = Object.entries(labels).map(([value, text]) => make('option', {value, selected: value === chosen}, text));
  return make('label', {className: 'field'}, make('span', {}, label), make('span', {className: 'input select'}, make('select', {name}, ...options)));
}
