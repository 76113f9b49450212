/** Avatars: a photo, or a signal flag with initials; and the mark of presence. */
import {drawingOf, drawingText, make, useOf} from '../core/dom.js';
import {words} from '../text/words.js';

const PATTERNS = ['cross', 'saltire', 'hoist', 'fess', 'quarter', 'diagonal', 'bar', 'border'];
const HUES = ['petrol', 'rust', 'brass', 'plum', 'navy', 'moss', 'slate', 'rose'];

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
