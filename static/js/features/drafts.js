/** A draft for each channel, kept while it is written, so that neither a reload nor a crash loses it. */
import {listen, state, tell} from '../core/state.js';
import {keep, kept} from '../core/store.js';
import {messageBox, setText} from '../views/composer.js';

const nameOf = channelId => `draft:${channelId}`;

/* What stands in the box of this tab. */
const written = {channelId: null, text: ''};

/* Another tab at the channel one leaves may have sent what it had, and emptied the draft of both. */
listen('composer-opened', channelId => {
  if (written.text && !kept(nameOf(written.channelId))) store(written.channelId, written.text);
  setText(kept(nameOf(channelId)) || '');
});

listen('composer-input', channelId => {
  if (!state.me || !channelId) return;
  Object.assign(written, {channelId, text: messageBox().value});
  store(channelId, written.text);
});

/* What waited for its files may go while another channel is open. */
listen('sent', channelId => {
  if (channelId === written.channelId) written.text = '';
  store(channelId, '');
});

function store(channelId, text) {
  const had = Boolean(kept(nameOf(channelId)));
  keep(nameOf(channelId), text.trim() ? text : null);
  if (had !== Boolean(text.trim())) tell('drafts');
}
