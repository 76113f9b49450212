/** A draft for each channel, kept while it is written, so that neither a reload nor a crash loses it. */
import {listen, state, tell} from '../core/state.js';
import {keep, kept} from '../core/store.js';
import {messageBox, setText} from '../views/composer.js';

const nameOf = channelId => `draft:${channelId}`;

listen('composer-opened', channelId => setText(kept(nameOf(channelId)) || ''));

listen('composer-input', channelId => {
  if (state.me && channelId) store(channelId, messageBox().value);
});

/* What waited for its files may go while another channel is open. */
listen('sent', channelId => store(channelId, ''));

function store(channelId, text) {
  const had = Boolean(kept(nameOf(channelId)));
  keep(nameOf(channelId), text.trim() ? text : null);
  if (had !== Boolean(text.trim())) tell('drafts');
}
