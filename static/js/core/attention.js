/** How much attention a message deserves: by the level of its channel, by who is named, by the hour. */
import {preference} from './preferences.js';
import {isForMe, isNews, state} from './state.js';

const LEVELS = {
  all: forMe => forMe ? 'mention' : 'message',
  mentions: forMe => forMe ? 'mention' : '',
  none: () => '',
};

/** The days that quiet hours begin on, as `Date.getDay` counts them, and their first choice. */
export const QUIET_HOURS = {on: false, start: '22:00', end: '07:00', days: [0, 1, 2, 3, 4, 5, 6]};

/** What a new message is worth: 'mention' when it is for the reader, 'message', or '' when it may pass unnoticed. */
export function attentionFor(message, now = new Date()) {
  const channel = state.channels.get(message.channel_id);
  if (!isNews(message) || !channel || !channel.joined || isQuiet(now)) return '';
  const forMe = channel.kind === 'direct' || isForMe(message) || hasKeyword(message.text, preference('keywords', ''));
  return LEVELS[channel.notify](forMe);
}

/** Whether the person wants quiet now: by their presence, or by the clock of this device. */
export function isQuiet(now = new Date()) {
  const {presence} = state.users.get(state.me.id) || state.me;
  return presence === 'dnd' || isQuietAt(now, preference('quiet_hours', QUIET_HOURS));
}

/** Whether a time lies in the quiet hours; those that end on the next morning belong to the day they began. */
export function isQuietAt(now, {on, start, end, days}) {
  if (!on) return false;
  const time = now.toTimeString().slice(0, 5);
  const today = now.getDay();
  const yesterday = (today + 6) % 7;
  if (start <= end) return days.includes(today) && start <= time && time < end;
  return days.includes(today) && time >= start || days.includes(yesterday) && time < end;
}

/** Whether a text has one of the keywords (parted by commas) as whole words; capitals make no difference. */
export function hasKeyword(text, keywords) {
  const words = keywords.split(',').map(word => word.trim()).filter(Boolean).map(escapePattern);
  if (!words.length) return false;
  return new RegExp(`(?:^|[^\\p{L}\\p{N}_])(?:${words.join('|')})(?![\\p{L}\\p{N}_])`, 'iu').test(text);
}

const escapePattern = text => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
