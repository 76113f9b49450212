/** The administration: codes with which people join, to hand on, to show, to print. */
import {get, remove} from '../core/api.js';
import {find, make} from '../core/dom.js';
import {state, userName} from '../core/state.js';
import {adminWords as words} from '../text/admin-words.js';
import {words as pageWords} from '../text/words.js';
import {button, card, copyField, listRow, paragraph, postAndJoining, selectField, showOnce, whenInWords} from './admin-parts.js';
import {field} from './dialog.js';
import {stayingForm} from './form.js';
import {invitationSheet} from './invitation.js';
import {attempt, toast} from './toast.js';

const ROLES = ['guest', 'member', 'admin'];
const USUAL_HOURS = 72;

/** Fills the part about invitations. */
export function drawInvites(body) {
  const list = make('div');
  body.append(card(words.newInvite, [newInvite(list)]), card(words.invites, [list]));
  fetchInvites(list);
}

const ownChannels = () => [...state.channels.values()].filter(channel => channel.joined && channel.kind !== 'direct' && !channel.archived);

function newInvite(list) {
  const form = stayingForm([
    field('uses', words.inviteUses, {type: 'number', min: 1, max: 10000, value: 1, inputMode: 'numeric'}),
    selectField('hours', words.inviteHours, Object.entries(words.inviteHoursOf), {hint: words.hoursOfService, chosen: USUAL_HOURS}),
    selectField('role', words.inviteRole, ROLES.map(role => [role, pageWords.roles[role]]), {chosen: 'member'}),
    selectField('channel_id', words.inviteChannel, [['', words.noChannel], ...ownChannels().map(channel => [channel.id, `#${channel.name}`])]),
  ], words.makeInvite, async ({uses, hours, role, channel_id: channelId}) => {
    const body = {uses: Number(uses), hours: Number(hours), role, channel_id: Number(channelId) || null};
    const [invite, joining] = await postAndJoining('/admin/invites', body);
    showInvite(invite, joining);
    await fetchInvites(list);
  });
  form.classList.add('admin-form');
  return form;
}

/* The one time that the code is seen. The sheet has it too, with a button for the link, but only where others can follow it. */
function showInvite({code, url}, joining) {
  const bare = [make('b', {className: 'invite-code mono'}, code), copyField(url, words.copyLink)];
  showOnce(words.inviteMade, words.inviteText, [invitationSheet(state.settings.name, joining, code), ...(joining.address ? [] : bare)]);
}

async function fetchInvites(list) {
  const answer = await attempt(() => get('/admin/invites'));
  if (!answer) return;
  list.replaceChildren(...answer.invites.map(invite => inviteRow(list, invite)));
  if (!answer.invites.length) list.append(paragraph(words.noInvites));
}

function inviteRow(list, invite) {
  const channel = state.channels.get(invite.channel_id);
  const about = words.inviteAbout(invite);
  const row = listRow(words.inviteFor(pageWords.roles[invite.role], channel && channel.name), about, button(words.revoke, async () => {
    await attempt(async () => {
      await remove(`/admin/invites/${invite.id}`);
      toast(words.revoked, {name: 'x'});
    });
    await fetchInvites(list);
  }, {name: words.revokeInvite(about)}));
  find('small', row).append(' · ', words.invitedBy(userName(invite.created_by), whenInWords(invite.created_at)));
  return row;
}
