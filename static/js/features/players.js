/** Sound and film in messages: players that go on while their message is drawn anew. */
import {find, findAll} from '../core/dom.js';
import {listen, state} from '../core/state.js';
import {drawPlayer, playAlone} from '../views/player.js';
import {drawCard, onMessageDrawn} from '../views/message.js';

/* What has been drawn in the open channel, by message and file. */
const drawn = new Map();
let {channelId} = state;

listen('route', () => {
  if (channelId === state.channelId) return;
  channelId = state.channelId;
  playAlone(null);
  drawn.clear();
});

/* What is live, as in a call, has no other beside it to give way to. */
document.addEventListener('play', event => event.target.srcObject || playAlone(event.target), true);

onMessageDrawn((article, message) => {
  for (const figure of findAll('figure.media', article)) {
    const file = message.files.find(one => String(one.id) === figure.dataset.file);
    const key = `${message.client_id || message.id} ${file.id}`;
    if (figure.classList.contains('audio')) find('audio', figure).replaceWith(playerOf(key, file));
    else keepFilm(key, find('video', figure));
  }
});

function playerOf(key, file) {
  if (!drawn.has(key)) drawn.set(key, drawPlayer(file, () => giveUp(key, file)));
  return drawn.get(key);
}

/* What this browser cannot play can still be fetched. */
function giveUp(key, file) {
  const card = drawCard(file);
  drawn.get(key).replaceWith(card);
  drawn.set(key, card);
}

/* Moved within one task, a film plays on. */
function keepFilm(key, film) {
  const before = drawn.get(key);
  if (before && (before.currentTime || !before.paused)) film.replaceWith(before);
  else drawn.set(key, film);
}
