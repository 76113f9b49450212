/** Avatars: a photo, or a signal flag with initials; and the marks of presence and status. */
import {drawingOf, drawingText, make, useOf} from '../core/dom.js';
import {localTime, serverNow} from '../core/state.js';
import {endTime} from '../text/measures.js';
import {words} from '../text/words.js';

const PATTERNS = ['cross', 'saltire', 'hoist', 'fess', 'quarter', 'diagonal', 'bar', 'border'];
/** Stands for a status without an emoji. */
export const NO_EMOJI = '💬';

/** The hues a flag can have. */
export const HUES = ['petrol', 'rust', 'brass', 'plum', 'navy', 'moss', 'slate', 'rose'];

/** One person's picture of `size` pixels; `presence` adds how reachable they are. */
export function avatar(user, size, {presence = false} = {}) {
  const frame = make('span', {className: `avatar size-${size} hue-${hueOf(user)}`}, pictureOf(user, size));
  if (presence) frame.append(presenceMark(user.presence || 'offline'));
  return frame;
}

function hueOf(user) {
  return HUES.includes(user.color) ? user.color : HUES[user.id % HUES.length];
}

function pictureOf(user, size) {
  if (user.avatar) return make('img', {src: user.avatar, width: size, height: size, alt: ''});
  const drawing = drawingOf(size, size, '0 0 36 36');
  const letters = size < 30 ? 15 : 13.2;
  drawing.append(useOf(`#pattern-${patternOf(user)}`), drawingText(initialsOf(user), 18, 18 + letters * .36, letters));
  return drawing;
}

/* A small multiplication spreads neighbouring ids over the patterns. */
function patternOf(user) {
  return PATTERNS[(user.id * 5 + (user.id >> 3)) % PATTERNS.length];
}

function initialsOf(user) {
  const names = (user.display_name || user.username || '?').trim().split(/[\s._-]+/).filter(Boolean);
  const letters = names.length > 1 ? [names[0], names[names.length - 1]] : [names[0] || '?'];
  return letters.map(name => [...name][0].toUpperCase()).join('');
}

function presenceMark(presence) {
  const mark = make('span', {className: `presence ${presence}`, title: words.presence[presence]});
  mark.append(make('span', {className: 'visually-hidden'}, words.presence[presence]));
  return mark;
}

/** What somebody says of themselves as long as it lasts, else null. */
export function statusOf({status}) {
  return status && (status.until === null || status.until > serverNow()) ? status : null;
}

/** A status, or a state, in words with its end. */
export const untilInWords = (text, until) => until === null ? text : words.until(text, endTime(localTime(until)));

/** Somebody's status as a line, to fill a slot; null without one. */
export function statusLine(user) {
  const status = statusOf(user);
  return status && [statusMark(user), make('span', {dir: 'auto'}, untilInWords(status.text, status.until))];
}

/** The emoji of somebody's status, in words for readers and as a tooltip; null without a status. */
export function statusMark(user) {
  const status = statusOf(user);
  if (!status) return null;
  const text = untilInWords(status.text, status.until);
  return make('span', {className: 'status-mark', role: 'img', title: text, 'aria-label': text || words.status}, status.emoji || NO_EMOJI);
}
