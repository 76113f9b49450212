/** Who is writing in the open channel, and telling the others that one writes. */
import {ApiError, post} from '../core/api.js';
import {find, make, setSlot} from '../core/dom.js';
import {listen, openChannel, state, userName} from '../core/state.js';
import {words} from '../text/words.js';

const TELL_EVERY = 3000;
const VANISH_AFTER = 5000;
const MOST_NAMES = 3;

/* Timers by channel and person; whoever stops is forgotten when the timer runs out. */
const writers = new Map();
const lastTold = {channelId: null, at: -TELL_EVERY};

/* Only what a hand types is told, not a draft that is put back. */
document.addEventListener('input', event => {
  const channel = openChannel();
  if (event.target.id !== 'message-text' || !event.target.value.trim() || !channel || state.link.status !== 'on') return;
  const now = performance.now();
  if (lastTold.channelId === channel.id && now - lastTold.at < TELL_EVERY) return;
  Object.assign(lastTold, {channelId: channel.id, at: now});
  tellServer(channel.id);
});

/* Nothing is lost when the others do not hear it. */
async function tellServer(channelId) {
  try {
    await post(`/channels/${channelId}/typing`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

listen('sent', () => { lastTold.channelId = null; });

listen('typing', ({channel_id: channelId, user_id: userId}) => {
  if (userId === state.me.id) return;
  const inChannel = writers.get(channelId) || new Map();
  clearTimeout(inChannel.get(userId));
  inChannel.set(userId, setTimeout(stop, VANISH_AFTER, channelId, userId));
  writers.set(channelId, inChannel);
  draw();
});

listen('message', message => stop(message.channel_id, message.user_id));
for (const topic of ['composer-opened', 'composer-drawn', 'notice-drawn', 'user']) listen(topic, draw);
listen('link', link => {
  if (link.status === 'on') return;
  for (const timer of [...writers.values()].flatMap(inChannel => [...inChannel.values()])) clearTimeout(timer);
  writers.clear();
  draw();
});

function stop(channelId, userId) {
  const inChannel = writers.get(channelId);
  if (!inChannel || !inChannel.has(userId)) return;
  clearTimeout(inChannel.get(userId));
  inChannel.delete(userId);
  draw();
}

function draw() {
  const form = find('#composer');
  if (!form) return;
  const ids = [...(writers.get(state.channelId) || new Map()).keys()];
  setSlot(form, 'typing', ids.length ? [dots(), make('span', {className: 'ellipsis'}, ...sentence(ids))] : null);
}

const dots = () => make('span', {className: 'dots', 'aria-hidden': 'true'}, make('i'), make('i'), make('i'));

/* First names, as one speaks of people in the same room. */
function sentence(ids) {
  const names = ids.slice(0, MOST_NAMES).map(id => userName(id).split(' ')[0]);
  const more = ids.length - names.length;
  const bold = names.flatMap((name, index) => [index ? words.between(index === names.length - 1 && !more) : '', make('b', {dir: 'auto'}, name)]);
  return [...bold, words.areTyping(ids.length, more)];
}
