/** Who names somebody outside of the channel learns that they were not told, and may bring them into a public one. */
import {post} from '../core/api.js';
import {findAll, make} from '../core/dom.js';
import {apply, listen, mayInvite, state, userName} from '../core/state.js';
import {emojiWords} from '../text/emoji-words.js';
import {markup} from '../text/markup.js';
import {words} from '../text/words.js';
import {attempt, toast} from '../views/toast.js';

listen('delivered', message => {
  const channel = state.channels.get(message.channel_id);
  const outside = namedIn(message.text).filter(id => id !== state.me.id && !message.mentions.includes(id));
  if (!outside.length || !channel || channel.kind === 'direct') return;
  const names = outside.map(userName).reduce((line, name, index) => line + (index ? words.between(index === outside.length - 1) : '') + name, '');
  const mayAdd = channel.kind === 'public' && mayInvite(channel);
  toast(emojiWords.notTold(names, outside.length), {name: 'info', action: mayAdd ? {label: words.add, run: () => add(channel, outside)} : null});
});

function namedIn(text) {
  const names = findAll('.mention[data-user-id]', make('div', {}, ...markup(text)));
  return [...new Set(names.map(name => Number(name.dataset.userId)))];
}

function add(channel, users) {
  return attempt(async () => {
    const answer = await post(`/channels/${channel.id}/members`, {users});
    apply({kind: 'channel', value: answer.channel});
  });
}
