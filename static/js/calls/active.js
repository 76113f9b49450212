/** The one call that this page takes part in. */
import {channelName, state, tell} from '../core/state.js';
import {callWords as words} from '../text/call-words.js';

/**
 * `call` as the server tells it, null when in none; `device`, this page's name in it; `mesh`, its connections; `marks` as the others are
 * to see them; `silent`, whether the person wishes not to be heard; `troubles`, sentences by name.
 */
export const active = {call: null, device: '', mesh: null, joining: false, marks: null, silent: false, troubles: new Map()};

/** Says that something has changed; who draws listens to `own-call`. */
export const changed = () => tell('own-call', active.call);

/** Whether this page is in a call, or coming to one. */
export const isInCall = () => Boolean(active.call) || active.joining;

/** The person's own part in a call. */
export const ownPart = call => call.participants.find(one => one.user_id === state.me.id);

/** Says something that the person should know and can mend, or takes it back. */
export function setTrouble(name, text = '') {
  if ((active.troubles.get(name) || '') === text) return;
  if (text) active.troubles.set(name, text);
  else active.troubles.delete(name);
  changed();
}

/** What the place of a call is called. */
export function placeOf(call) {
  const channel = state.channels.get(call.channel_id);
  if (!channel) return words.elsewhere;
  return channel.kind === 'direct' ? channelName(channel) : `#${channelName(channel)}`;
}
