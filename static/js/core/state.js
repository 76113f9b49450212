/** One copy of what the server told, and who wants to hear of changes. */

export const state = {
  me: null,
  preferences: {},
  users: new Map(),
  channels: new Map(),
  calls: new Map(),
  alerts: new Map(),
  settings: {},
  server: {},
  clockAhead: 0,
  cursor: '',
  link: {status: 'connecting', retryAt: 0},
  channelId: null,
  /* What stands in place of a conversation: {name, icon, title}. */
  page: null,
};

const listeners = new Map();

/** Calls `listener(value)` whenever `topic` is told. */
export function listen(topic, listener) {
  if (!listeners.has(topic)) listeners.set(topic, []);
  listeners.get(topic).push(listener);
}

/** Whether anybody would hear a topic: what nobody hears need not be offered. */
export const isHeard = topic => listeners.has(topic);

export function tell(topic, value) {
  for (const listener of listeners.get(topic) || []) listener(value);
}

/** Replaces everything by a fresh snapshot. */
export function takeSnapshot(snapshot) {
  state.me = snapshot.me;
  state.preferences = snapshot.preferences || {};
  state.users = byId(snapshot.users);
  state.channels = byId(snapshot.channels);
  state.calls = byId(snapshot.calls || []);
  state.alerts = byId(snapshot.alerts || []);
  state.settings = snapshot.settings;
  noteServer(snapshot.server);
  state.cursor = snapshot.cursor;
  tell('snapshot');
}

/** Keeps the first build this page ran with: a later one means the page itself is old. */
export function noteServer(server) {
  if (server.now) state.clockAhead = server.now - Date.now();
  const changed = state.server.build && state.server.build !== server.build;
  if (!changed) state.server = server;
  else tell('new-version', server);
}

/** What the server's clock says (ms): by it ends what has an end. */
export const serverNow = () => Date.now() + state.clockAhead;

/** A time of the server's as the clock of this device shows it, and back again. */
export const localTime = at => at - state.clockAhead;
export const serverTime = at => at + state.clockAhead;

function byId(things) {
  return new Map(things.map(thing => [thing.id, thing]));
}

const APPLY = {
  user: applyUser,
  presence: applyPresence,
  channel: applyChannel,
  mine: applyMine,
  message: applyMessage,
  call: applyCall,
  alert: applyAlert,
  acknowledged: applyAcknowledgement,
};

/** Takes in one event of the feed, then tells those who listen to its kind. */
export function apply({kind, value}) {
  if (APPLY[kind]) APPLY[kind](value);
  tell(kind, value);
}

function applyUser(user) {
  const known = state.users.get(user.id);
  state.users.set(user.id, user);
  if (known && user.presence === undefined) user.presence = known.presence;
  if (user.id === state.me.id) state.me = user;
}

function applyPresence({user_id: id, state: presence, until = null, last_seen: lastSeen}) {
  const user = state.users.get(id);
  if (user) state.users.set(id, {...user, presence, presence_until: until, last_seen: lastSeen || user.last_seen});
}

function applyChannel(channel) {
  if (channel.gone) return state.channels.delete(channel.id);
  const known = state.channels.get(channel.id);
  state.channels.set(channel.id, {...PERSONAL, ...known, ...channel, ...(known ? keptOf(known, channel) : null)});
}

/*
 * The feed tells a channel as it is now, before the messages that followed; they are still to be counted.
 * An answer to oneself may be older than what was heard or read meanwhile.
 */
function keptOf({read_to, unread, mentions, last_message_id}, channel) {
  if (channel.joined === undefined) return {last_message_id};
  const overtaken = last_message_id > channel.last_message_id;
  if (overtaken) tell('recount', channel.id);
  return overtaken || read_to > channel.read_to ? {read_to, unread, mentions, last_message_id} : null;
}

const PERSONAL = {joined: false, read_to: 0, unread: 0, mentions: 0, notify: 'all', hidden: false, favourite: false};

/* The feed counts as of now, with messages that are still to be told; whoever asks for a count learns up to which it goes. */
function applyMine({channel_id: id, ...personal}) {
  const known = state.channels.get(id);
  if (!known || !known.joined) tell('joined', id);
  if (known) state.channels.set(id, {...known, joined: true, ...personal});
  if (known && personal.unread && !personal.last_message_id) tell('recount', id);
}

/* Only those that go on are kept. */
function applyCall(call) {
  if (call.ended_at === null) state.calls.set(call.id, call);
  else state.calls.delete(call.id);
}

function applyAlert(alert) {
  if (alert.ended_at) return state.alerts.delete(alert.id);
  state.alerts.set(alert.id, {acknowledged: false, ...state.alerts.get(alert.id), ...alert});
}

function applyAcknowledgement({alert_id: id, user_id: userId}) {
  const alert = state.alerts.get(id);
  if (alert && userId === state.me.id) state.alerts.set(id, {...alert, acknowledged: true});
}

function applyMessage(message) {
  const channel = state.channels.get(message.channel_id);
  if (!channel) return;
  if (channel.last_message_id >= message.id) return void (mayMiscount(channel, message) && tell('recount', channel.id));
  const isNew = channel.joined && isNews(message) && message.id > channel.read_to;
  state.channels.set(channel.id, {
    ...channel, last_message_id: message.id,
    unread: oneMore(channel.unread, isNew), mentions: oneMore(channel.mentions, isNew && isForMe(message)),
  });
}

/* What was counted as new is deleted, or names others than before: only the server knows what is left. */
function mayMiscount(channel, message) {
  const counted = channel.unread > 0 && message.id > channel.read_to && message.user_id !== state.me.id;
  return counted && (message.deleted || Boolean(message.edited_at) && (channel.mentions > 0 || isForMe(message)));
}

/* The server counts to a thousand and no further. */
const oneMore = (count, more) => Math.min(1000, (count || 0) + (more ? 1 : 0));
/** Whether a message is something new for the reader to know: written, and by somebody else. */
export const isNews = message => message.kind === 'text' && !message.deleted && message.user_id !== state.me.id;

/** Whether a message names the person signed in. */
export function isForMe(message) {
  return isNews(message) && (message.mentions || []).some(who => [state.me.id, 'everyone', 'here'].includes(who));
}

/** What a channel is called: a direct one by the people in it. */
export function channelName(channel) {
  if (channel.kind !== 'direct') return channel.name || '';
  const others = channel.members.filter(id => id !== state.me.id);
  return (others.length ? others : [state.me.id]).map(userName).join(', ');
}

/** Whom a direct channel is with: the first of the others, oneself in the notebook. */
export function peerOf(channel) {
  const id = channel.members.find(one => one !== state.me.id) || state.me.id;
  return state.users.get(id) || {id};
}

/** Whether a channel is a talk with one person, or the notebook. */
export const isPair = channel => channel.kind === 'direct' && channel.members.length < 3;

export function userName(id) {
  const user = state.users.get(id);
  return user ? user.display_name || user.username : '';
}

export function openChannel() {
  return state.channels.get(state.channelId) || null;
}

/** Whether the person signed in administers this place. */
export const isAdmin = () => ['admin', 'owner'].includes(state.me.role);

/** Rename, topic, archive: the creator, an admin or the owner, when in the channel. */
export function mayManage(channel) {
  return Boolean(channel) && channel.joined && channel.kind !== 'direct' && (channel.created_by === state.me.id || isAdmin());
}

/** Saying who writes: those who will then write themselves; opening it again, whoever manages the channel. */
export function mayRestrict(channel) {
  return mayManage(channel) && !channel.archived && (isAdmin() || channel.posting === 'admins');
}

export function mayWrite(channel) {
  return Boolean(channel) && channel.joined && !channel.archived && (channel.posting !== 'admins' || isAdmin());
}

export function mayDelete(message) {
  return message.user_id === state.me.id || isAdmin();
}

/** Bringing others in: members and up, into a channel one is in; a direct one always keeps its people. */
export function mayInvite(channel) {
  return channel.joined && channel.kind !== 'direct' && !channel.archived && state.me.role !== 'guest';
}

/** How many people are in a channel. */
export function memberCount(channel) {
  return channel.kind === 'direct' ? channel.members.length : channel.member_count;
}

export const mayCreateChannels = () => state.me.role !== 'guest';

/** Where the address bar points: {channelId, messageId}, each a number or null. */
export function readRoute() {
  const [, channel, message] = /^#\/channel\/(\d+)(?:\/message\/(\d+))?$/.exec(location.hash) || [];
  return {channelId: Number(channel) || null, messageId: Number(message) || null};
}

/** Goes to an address of this page; the step of history that a drawer or a panel took becomes the new place. */
export function goTo(address) {
  if (history.state && (history.state.drawer || history.state.panel)) location.replace(address);
  else location.hash = address;
}

/** The token of a link that sets a new password, whoever is signed in here; undefined where the address is another. */
export const resetToken = () => (/^#\/reset\/([\w-]+)$/.exec(location.hash) || [])[1];

export function addressOf(channelId, messageId) {
  return messageId ? `#/channel/${channelId}/message/${messageId}` : `#/channel/${channelId}`;
}
