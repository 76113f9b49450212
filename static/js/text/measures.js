/** Times and sizes in words. */
import {preference} from '../core/preferences.js';
import {listen} from '../core/state.js';
import {words} from './words.js';

/** What `dates` is while nobody chose a language for them: that of the page. */
export const PAGE_DATES = 'page';

const PAGE_LANGUAGE = document.documentElement.lang;
const LOCALES = ['cs', 'da', 'de', 'el', 'en-GB', 'en-US', 'es', 'et', 'fi', 'fr', 'hu', 'is', 'it', 'ja', 'ko', 'lt', 'lv',
  'nb', 'nl', 'pl', 'pt', 'pt-BR', 'ro', 'ru', 'sk', 'sl', 'sv', 'tr', 'uk', 'zh-CN'];
const SIZES = ['B', 'kB', 'MB', 'GB', 'TB'];

let formats = {};

/** The languages for dates that this browser knows. */
export const dateLocales = () => Intl.DateTimeFormat.supportedLocalesOf(LOCALES);

/** Changes whenever dates and times are written differently from now on. */
export const dateForm = () => formats.name;

function language() {
  const chosen = preference('dates', PAGE_DATES);
  if (chosen === PAGE_DATES) return PAGE_LANGUAGE;
  return chosen === 'device' ? navigator.language : chosen;
}

function makeFormats() {
  const locale = language();
  const hourCycle = preference('clock_24', true) ? 'h23' : 'h12';
  const make = options => new Intl.DateTimeFormat(locale, options);
  formats = {
    name: `${locale} ${hourCycle}`,
    time: make({hour: hourCycle === 'h12' ? 'numeric' : '2-digit', minute: '2-digit', hourCycle}),
    day: make({weekday: 'long', day: 'numeric', month: 'long'}),
    dayAndYear: make({weekday: 'long', day: 'numeric', month: 'long', year: 'numeric'}),
    weekday: make({weekday: 'short'}),
    shortDay: make({day: 'numeric', month: 'short'}),
    shortDayAndYear: make({day: 'numeric', month: 'short', year: 'numeric'}),
    full: make({dateStyle: 'full', timeStyle: 'medium', hourCycle}),
  };
}

makeFormats();
listen('preference', name => ['clock_24', 'dates'].includes(name) && makeFormats());

export const clockTime = at => formats.time.format(at);
export const fullTime = at => formats.full.format(at);

/** The day as a heading; the year only when it is another one. */
export function dayName(at) {
  const sameYear = new Date(at).getFullYear() === new Date().getFullYear();
  return (sameYear ? formats.day : formats.dayAndYear).format(at).replace(/^([A-Z][a-z]+) /, '$1, ');
}

/** The day in few letters; the year only when it is another one. */
export function shortDay(at) {
  const sameYear = new Date(at).getFullYear() === new Date().getFullYear();
  return (sameYear ? formats.shortDay : formats.shortDayAndYear).format(at);
}

/** A time with its day, unless that is today. */
export const endTime = at => dayKey(at) === dayKey(Date.now()) ? clockTime(at) : `${shortDay(at)}, ${clockTime(at)}`;

/** The days of the week in few letters, from Monday: {day, as `Date.getDay` counts it, and name}. */
export function weekdays() {
  return [1, 2, 3, 4, 5, 6, 7].map(number => {
    /* The first of January 2024 was a Monday. */
    const date = new Date(2024, 0, number);
    return {day: date.getDay(), name: formats.weekday.format(date)};
  });
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

/** Files whose names begin like this were spoken into the page. */
export const VOICE_NAME = 'voice-message';

/** The letters on a file's badge. */
export function fileKind(name) {
  const [, ending] = /\.(\w{1,4})$/.exec(name) || [];
  return ending ? ending.toUpperCase() : words.file.toUpperCase();
}
