/** Replies: a bar above the text while one answers, a quote above the answer that leads to the original. */
import {ApiError, get} from '../core/api.js';
import {fill, find} from '../core/dom.js';
import {addressOf, listen, mayWrite, openChannel, state, userName} from '../core/state.js';
import {keep, kept} from '../core/store.js';
import {plainLine} from '../text/markup.js';
import {words} from '../text/words.js';
import {addContributor, fillComposer, messageBox} from '../views/composer.js';
import {addMessageAction, fillQuote, onMessageDrawn} from '../views/message.js';
import {redraw} from '../views/timeline.js';

const QUOTE_LENGTH = 200;

/* Originals by id: a message, a promise of one, or null when it is gone. */
const originals = new Map();
const nameOf = channelId => `reply:${channelId}`;

addMessageAction({
  name: 'reply', icon: 'reply', label: words.reply, key: 'R', order: 10, quick: true,
  may: message => message.id && !message.deleted && message.kind === 'text' && mayWrite(openChannel()),
  run: message => {
    originals.set(message.id, message);
    keep(nameOf(message.channel_id), message.id);
    drawBar(message.channel_id);
    messageBox().focus();
  },
});

addContributor({
  ready: () => true,
  parts(channelId) {
    const replyTo = kept(nameOf(channelId));
    return replyTo ? {reply_to: replyTo} : {};
  },
});

listen('composer-opened', drawBar);
listen('sent', stopReplying);
listen('composer-drawn', () => messageBox().addEventListener('keydown', event => {
  if (event.key !== 'Escape' || !kept(nameOf(state.channelId))) return;
  event.preventDefault();
  stopReplying(state.channelId);
}));

function stopReplying(channelId) {
  keep(nameOf(channelId), null);
  if (channelId === state.channelId) fillComposer('reply', null);
}

async function drawBar(channelId) {
  const messageId = kept(nameOf(channelId));
  const original = messageId && await originalOf(messageId);
  if (channelId !== state.channelId) return;
  if (!original) return fillComposer('reply', null);
  const bar = fill('reply-bar', {text: `${words.replyingTo(userName(original.user_id))}: ${shorten(original)}`});
  find('button', bar).addEventListener('click', () => { stopReplying(channelId); messageBox().focus(); });
  fillComposer('reply', bar);
}

const shorten = message => plainLine(message.text).slice(0, QUOTE_LENGTH) || (message.files || []).map(file => file.name).join(', ');

function originalOf(id) {
  if (!originals.has(id)) originals.set(id, fetchOriginal(id));
  return originals.get(id);
}

async function fetchOriginal(id) {
  try {
    const {message} = await get(`/messages/${id}`);
    originals.set(id, message);
    return message;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.refused) originals.set(id, null);
    else originals.delete(id);
    return null;
  }
}

onMessageDrawn((article, message) => {
  originals.set(message.id, message);
  if (!message.reply_to || message.deleted) return;
  const known = originals.get(message.reply_to);
  if (known === undefined || known instanceof Promise) return fetchQuote(article, message.reply_to);
  fillQuote(article, quoteOf(known, message.reply_to));
});

async function fetchQuote(article, id) {
  fillQuote(article, fill('quote', {'quote-text': '…'}));
  const original = await originalOf(id);
  fillQuote(article, quoteOf(original, id));
}

function quoteOf(original) {
  if (!original) return fill('quote', {'quote-text': words.missingQuote});
  if (original.deleted) return fill('quote', {'quote-text': words.deletedQuote});
  const quote = fill('quote', {'quote-name': userName(original.user_id), 'quote-text': shorten(original)});
  quote.href = addressOf(original.channel_id, original.id);
  return quote;
}

/* An original that was edited or deleted changes every quote of it in view. */
listen('message', message => {
  if (!originals.has(message.id)) return;
  originals.set(message.id, message);
  for (const quote of document.querySelectorAll(`.quote[href="${addressOf(message.channel_id, message.id)}"]`)) {
    quote.replaceWith(quoteOf(message));
  }
});

listen('snapshot', () => { originals.clear(); redraw(); });
