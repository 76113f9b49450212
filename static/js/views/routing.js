/** Where the page is: it opens what the address bar names. */
import {ApiError, get} from '../core/api.js';
import {find} from '../core/dom.js';
import {addressOf, apply, goTo, listen, readRoute, resetToken, state, tell} from '../core/state.js';
import {keep, kept} from '../core/store.js';
import {words} from '../text/words.js';
import {fillNotice} from './composer.js';
import {showChannel, showEmpty} from './timeline.js';
import {fetched} from './toast.js';

const PAGE = /^#\/([a-z]+)(?:\/([a-z]+))?$/;
const pages = new Map();

/**
 * Goes where the address bar points, now and whenever that changes. `loads` maps the names of pages at addresses of
 * their own to what fetches them: such a module listens to `page-NAME`, told with the part of the page that is meant.
 * Whoever leads there tells `go-NAME`, with the part or nothing.
 */
export function startRouting(loads) {
  for (const [name, load] of Object.entries(loads)) {
    pages.set(name, load);
    listen(`go-${name}`, part => goTo(part ? `#/${name}/${part}` : `#/${name}`));
  }
  listen('notice-drawn', offerToJoin);
  listen('joined', fetchChannel);
  listen('channel', channel => channel.gone && channel.id === state.channelId && goHome());
  addEventListener('hashchange', route);
  document.addEventListener('click', followAgain);
  route();
}

/** Opens what the address bar names, else the channel that was open last. */
function route() {
  if (resetToken()) return location.reload();
  const {channelId, messageId} = readRoute();
  state.page = null;
  if (!channelId) return openPage() || goHome();
  const place = history.state && history.state.place;
  state.channelId = channelId;
  if (state.channels.has(channelId)) keep('last-channel', channelId);
  tell('route');
  if (state.channels.has(channelId)) return showChannel(channelId, messageId, place);
  return visit(channelId, messageId);
}

function openPage() {
  const [, name, part = ''] = PAGE.exec(location.hash) || [];
  if (!pages.has(name)) return false;
  Object.assign(state, {channelId: null, page: {name, icon: '', title: ''}});
  showEmpty('', '');
  tell('route');
  fetchPage(name, part);
  return true;
}

async function fetchPage(name, part) {
  const loaded = await fetched(pages.get(name)());
  if (loaded && state.page && state.page.name === name) tell(`page-${name}`, part);
}

function goHome() {
  const mine = [...state.channels.values()].filter(channel => channel.joined && !channel.hidden);
  const home = mine.find(channel => channel.id === kept('last-channel')) || mine.find(channel => channel.name === 'general') || mine[0];
  if (home) return location.replace(addressOf(home.id));
  state.channelId = null;
  tell('route');
  showEmpty(words.noChannelTitle, words.noChannelText);
}

/* A public channel one has not joined is not in the snapshot, but may be read. */
async function visit(channelId, messageId) {
  if (await fetchChannel(channelId) && state.channelId === channelId) showChannel(channelId, messageId);
  else if (state.channelId === channelId) showEmpty(words.notFoundTitle, words.notFoundText);
}

async function fetchChannel(channelId) {
  try {
    const {channel} = await get(`/channels/${channelId}`);
    apply({kind: 'channel', value: channel});
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return false;
  }
}

/* A link to where one already is changes no address, but still leads there. */
function followAgain(event) {
  const link = event.target.closest('a[href^="#/"]');
  if (link && link.hash === location.hash && !event.defaultPrevented) route();
}

function offerToJoin(notice) {
  const channel = state.channels.get(state.channelId);
  if (channel.joined || channel.archived || channel.kind !== 'public') return;
  fillNotice(notice, words.join, () => {});
  find('button', notice).id = 'join-channel';
}
