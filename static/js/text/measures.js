/** Times and sizes in words. */
import {words} from './words.js';

const LANGUAGE = document.documentElement.lang;
const TIME = new Intl.DateTimeFormat(LANGUAGE, {hour: '2-digit', minute: '2-digit', hourCycle: 'h23'});
const DAY = new Intl.DateTimeFormat(LANGUAGE, {weekday: 'long', day: 'numeric', month: 'long'});
const DAY_AND_YEAR = new Intl.DateTimeFormat(LANGUAGE, {weekday: 'long', day: 'numeric', month: 'long', year: 'numeric'});
const SHORT_DAY = new Intl.DateTimeFormat(LANGUAGE, {day: 'numeric', month: 'short'});
const SHORT_DAY_AND_YEAR = new Intl.DateTimeFormat(LANGUAGE, {day: 'numeric', month: 'short', year: 'numeric'});
const FULL = new Intl.DateTimeFormat(LANGUAGE, {dateStyle: 'full', timeStyle: 'medium', hourCycle: 'h23'});
const SIZES = ['B', 'kB', 'MB', 'GB', 'TB'];

export const clockTime = at => TIME.format(at);
export const fullTime = at => FULL.format(at);

/** The day as a heading; the year only when it is another one. */
export function dayName(at) {
  const sameYear = new Date(at).getFullYear() === new Date().getFullYear();
  return (sameYear ? DAY : DAY_AND_YEAR).format(at).replace(/^(\p{L}+) /u, '$1, ');
}

/** The day in few letters; the year only when it is another one. */
export function shortDay(at) {
  const sameYear = new Date(at).getFullYear() === new Date().getFullYear();
  return (sameYear ? SHORT_DAY : SHORT_DAY_AND_YEAR).format(at);
}

/** Two times with the same key lie on the same day here. */
export function dayKey(at) {
  return new Date(at).toDateString();
}

/** Decimal sizes, three digits at most: `2.8 MB`. */
export function sizeInWords(bytes) {
  let size = bytes;
  let step = 0;
  while (size >= 1000 && step < SIZES.length - 1) {
    size /= 1000;
    step += 1;
  }
  return `${step && size < 100 ? size.toFixed(1) : Math.round(size)} ${SIZES[step]}`;
}

/** The letters on a file's badge. */
export function fileKind(name) {
  const [, ending] = /\.(\w{1,4})$/.exec(name) || [];
  return ending ? ending.toUpperCase() : words.file.toUpperCase();
}
