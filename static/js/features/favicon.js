/** The sign in the browser's tab: a number for what is for the reader, a dot for what is merely new. */
import {find} from '../core/dom.js';
import {listen, state} from '../core/state.js';

const SIZE = 64;
const BADGE = {x: 44, y: 20, radius: 20};
const DOT = {x: 50, y: 14, radius: 13};

const mark = new Image();
let drawn = '';
let waiting = false;

for (const topic of ['snapshot', 'message', 'mine', 'channel']) listen(topic, drawSoon);
mark.addEventListener('load', drawSoon);
mark.src = '/static/favicon.svg';

function drawSoon() {
  if (waiting) return;
  waiting = true;
  setTimeout(() => { waiting = false; draw(); });
}

/* -- what it says */

function draw() {
  const sign = signFor([...state.channels.values()].filter(channel => channel.joined && channel.notify !== 'none'));
  if (sign === drawn || !mark.complete) return;
  drawn = sign;
  const link = find('link[rel="icon"]');
  link.type = sign ? 'image/png' : 'image/svg+xml';
  link.href = sign ? picture(sign) : mark.src;
}

function signFor(channels) {
  const forMe = channels.reduce((sum, channel) => sum + (channel.kind === 'direct' ? channel.unread : channel.mentions), 0);
  if (forMe) return forMe > 99 ? '99' : String(forMe);
  return channels.some(channel => channel.unread) ? '•' : '';
}

/* -- how it looks */

function picture(sign) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = SIZE;
  const pen = canvas.getContext('2d');
  const token = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  pen.drawImage(mark, 0, 0, SIZE, SIZE);
  const {x, y, radius} = sign === '•' ? DOT : BADGE;
  pen.fillStyle = token('--brass');
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
  if (sign !== '•') write(pen, sign, token('--on-brass'));
  return canvas.toDataURL('image/png');
}

function write(pen, text, colour) {
  pen.fillStyle = colour;
  pen.font = `700 ${text.length > 1 ? 26 : 32}px sans-serif`;
  pen.textAlign = 'center';
  pen.textBaseline = 'central';
  pen.fillText(text, BADGE.x, BADGE.y + 2);
}
