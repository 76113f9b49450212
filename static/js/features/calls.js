/** Calls, as far as nobody is in one: the button, the marks in the sidebar, the bar, the lines of history; all else comes with the first call. */
import {claim, find, icon, label, make, refill, setSlot, slot} from '../core/dom.js';
import {listen, openChannel, state, userName} from '../core/state.js';
import {keepForTab, keptForTab} from '../core/store.js';
import {ringWords as words} from '../text/ring-words.js';
import {onMessageDrawn} from '../views/message.js';
import {banner, toast} from '../views/toast.js';

const MOST_NAMES = 3;
/* The call that this page was in last, also before it was loaded anew. */
const CALL = 'call';

let loading = null;
let own = null;

const openCall = channelId => withCalls(calls => calls.openCall(channelId));
const partOf = call => call.participants.find(one => one.user_id === state.me.id);
const callIn = channelId => [...state.calls.values()].find(call => call.channel_id === channelId);
const isOwn = call => Boolean(own) && own.id === call.id;
const joinedIn = call => call.participants.filter(one => one.state === 'joined');

claim('#call');
document.addEventListener('click', event => event.target.closest('#call') && openCall(state.channelId));
for (const topic of ['route', 'channel', 'snapshot', 'call']) listen(topic, draw);
listen('call', hearRinging);
listen('snapshot', hearAllRinging);
listen('own-call', onOwnCall);
listen('sidebar-drawn', drawMarks);
draw();
hearAllRinging();
offerToRejoin();

/* Everything of a call in one piece, once somebody wants one. */
function load() {
  loading = loading || import('../calls/entry.js').catch(error => {
    loading = null;
    throw error;
  });
  return loading;
}

async function withCalls(act) {
  const calls = await load().catch(() => toast(words.notLoaded, {name: 'unplug'}));
  if (calls) await act(calls);
}

function hearAllRinging() {
  for (const call of state.calls.values()) hearRinging(call);
}

function hearRinging(call) {
  const part = partOf(call);
  if (part && part.state === 'ringing' && call.ended_at === null || loading) withCalls(calls => calls.ring(call));
}

function onOwnCall(call) {
  own = call;
  keepForTab(CALL, call && call.id);
  if (call) banner('rejoin', null);
  draw();
}

/* A page that was loaded anew in the middle of a call is another device of the same person. */
function offerToRejoin() {
  const call = state.calls.get(keptForTab(CALL));
  keepForTab(CALL, null);
  if (!call) return;
  const rejoin = () => { banner('rejoin', null); withCalls(calls => calls.rejoin(call)); };
  banner('rejoin', {kind: 'call', icon: 'phone', title: words.wereInCall, text: '', label: words.rejoin, run: rejoin});
  listen('call', ({id, ended_at: endedAt}) => id === call.id && endedAt !== null && banner('rejoin', null));
}

/* -- where a call is seen */

function draw() {
  drawButton();
  drawBar();
  drawMarks();
}

function drawButton() {
  const button = find('#call');
  const channel = openChannel();
  if (!button) return;
  button.hidden = !channel || !channel.joined || channel.archived;
  if (button.hidden) return;
  const call = callIn(channel.id);
  const count = call ? joinedIn(call).length : 0;
  const [text, about] = sayButton(call, count);
  button.classList.toggle('live', Boolean(call));
  refill(button, icon('phone', 18), make('span', {}, text));
  label(button, about);
}

function sayButton(call, count) {
  if (!call) return [words.call, words.startCall];
  return isOwn(call) ? [words.call, words.backToCall] : [words.join, words.joinCall(count)];
}

function drawBar() {
  const channel = openChannel();
  const call = channel && callIn(channel.id);
  const wanted = call && joinedIn(call).length && !isOwn(call) && !find('#rejoin');
  const old = find('#call-bar');
  const text = wanted ? words.inIt(names(joinedIn(call).map(one => one.user_id))) : '';
  if (old && wanted && slot(old, 'text').textContent === text) return;
  banner('call-bar', null);
  if (wanted) banner('call-bar', {kind: 'call', icon: 'phone', title: words.going, text, label: words.join, run: () => openCall(channel.id)});
}

function names(ids) {
  const shown = ids.slice(0, MOST_NAMES).map(userName);
  const more = ids.length - shown.length;
  const all = more ? [...shown, words.others(more)] : shown;
  return all.map((name, index) => (index ? words.between(index === all.length - 1) : '') + name).join('');
}

function drawMarks() {
  for (const old of document.querySelectorAll('.call-mark')) old.remove();
  for (const call of state.calls.values()) {
    const row = find(`.channel-lists a.channel[data-id="${call.channel_id}"]`);
    const count = joinedIn(call).length;
    if (row && count) slot(row, 'end').prepend(mark(count));
  }
}

function mark(count) {
  return make('span', {className: 'call-mark', role: 'img', 'aria-label': words.callGoesOn(count), title: words.callGoesOn(count)}, icon('phone', 14), String(count));
}

/* -- the line that a call leaves behind */

onMessageDrawn((article, message) => {
  if (message.kind !== 'call') return;
  const {seconds, missed} = message.data;
  setSlot(article, 'icon', icon('phone', 17));
  setSlot(article, 'text', missed ? words.missed : words.held(inWords(seconds)));
  article.classList.toggle('missed-call', missed && message.user_id !== state.me.id);
  const channel = state.channels.get(message.channel_id);
  if (channel && channel.kind === 'direct' && channel.joined) find('.text', article).append(' ', backButton(message));
});

function backButton({channel_id: channelId, user_id: userId, data}) {
  const text = data.missed && userId !== state.me.id ? words.callBack : words.callAgain;
  const button = make('button', {type: 'button', className: 'button small ghost call-back'}, text);
  button.addEventListener('click', () => openCall(channelId));
  return button;
}

function inWords(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (!minutes) return words.seconds(seconds);
  return minutes < 60 ? words.minutes(minutes, seconds % 60) : words.hours(Math.floor(minutes / 60), minutes % 60);
}
