/** What one does with a channel as a whole: change, join, leave. */
import {patch, post, remove} from '../core/api.js';
import {apply, state} from '../core/state.js';
import {words} from '../text/words.js';
import {ask} from './dialog.js';
import {attempt} from './toast.js';

const takeIn = channel => apply({kind: 'channel', value: channel});

/** Changes name, topic, posting or whether it is archived; raises what the server refuses. */
export async function changeChannel(channel, changes) {
  takeIn((await patch(`/channels/${channel.id}`, changes)).channel);
}

/** Changes how one hears of a channel: notify, hidden, favourite. */
export function changeMembership(channel, changes) {
  return attempt(async () => takeIn((await patch(`/channels/${channel.id}/me`, changes)).channel));
}

/** Joins a public channel; true when it went well. */
export function joinChannel(channelId) {
  return attempt(async () => {
    const {channel} = await post(`/channels/${channelId}/members`, {users: [state.me.id]});
    takeIn({...channel, joined: true});
    return true;
  });
}

/** Asks, then leaves. */
export async function leaveChannel(channel) {
  const text = channel.kind === 'public' ? words.leavePublic : words.leavePrivate;
  if (!await ask(words.leaveQuestion(channel.name), text, words.leave, {danger: true})) return;
  await attempt(async () => {
    await remove(`/channels/${channel.id}/members/${state.me.id}`);
    takeIn({id: channel.id, gone: true});
  });
}
