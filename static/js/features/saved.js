/** What one keeps for oneself: saved from the menu of a message, found again in the panel. */
import {ApiError, get, put, remove} from '../core/api.js';
import {listen} from '../core/state.js';
import {broadcast, hear} from '../core/store.js';
import {laterWords} from '../text/later-words.js';
import {words} from '../text/words.js';
import {cardList, messageCard, noCards} from '../views/cards.js';
import {addMessageAction} from '../views/message.js';
import {openPanel, openPanelName, tieButton} from '../views/panel.js';
import {attempt, toast} from '../views/toast.js';

const NAME = 'saved';
const saved = {messages: []};
const list = cardList();

const isSaved = message => saved.messages.some(other => other.id === message.id);
const maySave = message => Boolean(message.id && message.kind === 'text' && !message.deleted);

addMessageAction({name: 'save', icon: 'bookmark', label: laterWords.save, order: 20, may: message => maySave(message) && !isSaved(message), run: save});
addMessageAction({name: 'unsave', icon: 'bookmark', label: laterWords.unsave, order: 20, may: message => maySave(message) && isSaved(message), run: unsave});

tieButton('#saved', NAME, () => { show(); load(); });
listen('snapshot', load);
hear('saved', load);
listen('message', onMessage);
load();

async function save(message) {
  const done = await change(() => put(`/me/saved/${message.id}`), () => [message, ...others(message)]);
  if (done) toast(laterWords.savedNow, {name: 'bookmark'});
}

async function unsave(message) {
  const done = await change(() => remove(`/me/saved/${message.id}`), () => others(message));
  if (done) toast(laterWords.unsavedNow, {name: 'bookmark', action: {label: words.undo, run: () => save(message)}});
}

const others = message => saved.messages.filter(other => other.id !== message.id);

/* `after` gives what is saved then: another change may have come about meanwhile. The other tabs hear of it; other devices ask when they show it. */
function change(act, after) {
  return attempt(async () => {
    await act();
    take(after());
    broadcast('saved');
    return true;
  });
}

async function load() {
  try {
    take((await get('/me/saved')).messages);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

function take(messages) {
  saved.messages = messages;
  if (openPanelName() === NAME) show();
}

function onMessage(message) {
  if (isSaved(message)) take(saved.messages.map(other => other.id === message.id ? message : other).filter(maySave));
}

function show() {
  list.replaceChildren(...saved.messages.map(message => messageCard(message)));
  if (!saved.messages.length) list.append(noCards(laterWords.noSaved, laterWords.noSavedText));
  openPanel(NAME, {title: words.saved, count: saved.messages.length || '', body: list});
}
