/** What people write becomes nodes, never strings of markup: blocks first, then the marks within a line. */
import {fill, make} from '../core/dom.js';
import {addressOf, state} from '../core/state.js';

const FENCE = /^\s*```\s*(?:([\w+#.-]+)\s*)?$/;
const HEADING = /^(#{1,6})\s+(.+)$/;
const QUOTE = /^>\s?(.*)$/;
const BULLET = /^(\s*)[-*•]\s+(.+)$/;
const NUMBER = /^(\s*)(\d{1,9})[.)]\s+(.+)$/;
const TABLE_RULE = /^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$/;
const DEEPEST_BLOCK = 4;

/* Order matters: what is code is nothing else. */
const BLOCKS = [
  {starts: lines => FENCE.test(lines[0]), take: takeCode},
  {starts: lines => HEADING.test(lines[0]), take: takeHeading},
  {starts: lines => QUOTE.test(lines[0]), take: takeQuote},
  {starts: lines => BULLET.test(lines[0]), take: takeBullets},
  {starts: lines => NUMBER.test(lines[0]), take: takeNumbers},
  {starts: lines => lines.length > 1 && lines[0].includes('|') && TABLE_RULE.test(lines[1]), take: takeTable},
];

/** The elements that a message's text becomes. */
export function markup(text, depth = 0) {
  const elements = [];
  for (let lines = text.split('\n'); lines.length;) {
    if (!lines[0].trim()) {
      lines = lines.slice(1);
      continue;
    }
    const block = depth < DEEPEST_BLOCK && BLOCKS.find(candidate => candidate.starts(lines));
    const [element, used] = block ? block.take(lines, depth) : takeParagraph(lines, depth);
    elements.push(element);
    lines = lines.slice(used);
  }
  return elements;
}

/** The same text without marks, on one line, for quotes and announcements. */
export function plainLine(text) {
  const holder = make('div', {}, ...markup(text));
  for (const tools of holder.querySelectorAll('.code-tools')) tools.remove();
  for (const end of holder.querySelectorAll('br, li, td, th')) end.after(' ');
  return [...holder.children].map(element => element.textContent).join(' ').replace(/\s+/g, ' ').trim();
}

function countWhile(lines, test) {
  const end = lines.findIndex(line => !test(line));
  return end < 0 ? lines.length : end;
}

function takeParagraph(lines, depth) {
  let used = 1;
  while (used < lines.length && lines[used].trim() && !startsBlock(lines.slice(used, used + 2), depth)) used += 1;
  return [make('p', {dir: 'auto'}, ...withBreaks(lines.slice(0, used))), used];
}

function startsBlock(lines, depth) {
  return depth < DEEPEST_BLOCK && BLOCKS.some(block => block.starts(lines));
}

function withBreaks(lines) {
  return inline(lines.join('\n')).flatMap(part => typeof part === 'string' ? breakLines(part) : [part]);
}

function breakLines(text) {
  return text.split('\n').flatMap((line, index) => index ? [make('br'), line] : [line]);
}

function takeCode(lines) {
  const [, language = ''] = FENCE.exec(lines[0]);
  const length = countWhile(lines.slice(1), line => !/^\s*```\s*$/.test(line));
  const code = lines.slice(1, 1 + length).join('\n');
  return [fill('code-block', {code, language}), Math.min(lines.length, length + 2)];
}

function takeHeading(lines) {
  const [, marks, text] = HEADING.exec(lines[0]);
  /* The page has its own headings above these: a message starts at the third level. */
  const level = Math.min(6, marks.length + 2);
  return [make(`h${level}`, {dir: 'auto', className: 'heading'}, ...inline(text)), 1];
}

/* The bar of a quote and the marks of a list stand where its text begins, so the whole has one direction. */
function takeQuote(lines, depth) {
  const used = countWhile(lines, line => QUOTE.test(line));
  const inner = lines.slice(0, used).map(line => QUOTE.exec(line)[1]).join('\n');
  const blocks = markup(inner, depth + 1);
  for (const block of blocks) block.removeAttribute('dir');
  return [make('blockquote', {dir: 'auto'}, ...blocks), used];
}

function takeBullets(lines) {
  return takeList(lines, BULLET, make('ul', {dir: 'auto'}), match => match[2]);
}

function takeNumbers(lines) {
  const start = Number(NUMBER.exec(lines[0])[2]);
  return takeList(lines, NUMBER, make('ol', {start, dir: 'auto'}), match => match[3]);
}

/* One level of nesting: an item that is indented belongs to a list within the item before. */
function takeList(lines, pattern, list, textOf) {
  const used = countWhile(lines, line => pattern.test(line));
  const [, margin] = pattern.exec(lines[0]);
  for (const line of lines.slice(0, used)) {
    const match = pattern.exec(line);
    const item = make('li', {}, ...inline(textOf(match)));
    const parent = match[1].length > margin.length && list.lastElementChild;
    if (parent) innerList(parent, list.tagName).append(item);
    else list.append(item);
  }
  return [list, used];
}

function innerList(item, tag) {
  const last = item.lastElementChild;
  if (last && last.tagName === tag) return last;
  const list = make(tag);
  item.append(list);
  return list;
}

function takeTable(lines) {
  const used = 2 + countWhile(lines.slice(2), line => line.includes('|'));
  const head = make('thead', {}, rowOf('th', lines[0]));
  const body = make('tbody', {}, ...lines.slice(2, used).map(line => rowOf('td', line)));
  return [make('div', {className: 'table-frame', tabIndex: 0}, make('table', {}, head, body)), used];
}

function rowOf(tag, line) {
  const cells = line.trim().replace(/^\||\|$/g, '').split('|');
  return make('tr', {}, ...cells.map(cell => make(tag, {dir: 'auto'}, ...inline(cell.trim()))));
}

/* -- within a line */

const DEEPEST_INLINE = 6;
const TRAILING = /[.,;:!?'"»)\]]+$/;

/* Each rule is tried where its first letter stands; the first that fits wins. */
const RULES = [
  {first: '\\', pattern: /\\([\\`*_~[\]#>|@-])/y, build: ([, letter]) => letter},
  {first: '`', pattern: /(`{1,2})(?!`)([^\n]+?)\1(?!`)/y, build: ([, , code]) => make('code', {dir: 'ltr'}, code)},
  {first: '*', pattern: /\*\*(\S(?:[^]*?\S)??)\*\*(?!\*)/y, build: wrapIn('strong')},
  {first: '*', pattern: /\*(?=[^\s*])([^*\n]*[^\s*])\*/y, build: wrapIn('em')},
  {first: '_', pattern: /__(\S(?:[^]*?\S)??)__(?![_\p{L}\p{N}])/uy, build: wrapIn('u'), atWord: true},
  {first: '_', pattern: /_(?=[^\s_])([^_\n]*[^\s_])_(?![\p{L}\p{N}])/uy, build: wrapIn('em'), atWord: true},
  {first: '~', pattern: /~~(\S(?:[^]*?\S)??)~~/y, build: wrapIn('s')},
  {first: '[', pattern: /\[([^\]\n]{1,500})\]\(((?:https?:\/\/|mailto:|#\/channel\/)[^\s()]+(?:\([^\s()]*\)[^\s()]*)*)\)/y, build: namedLink},
  {first: 'h', pattern: /https?:\/\/[^\s<>"]+/y, build: bareLink, atWord: true},
  {first: '@', pattern: /@([A-Za-z0-9_-]{1,32})/y, build: mention, atWord: true},
  {first: '#', pattern: /#([\p{L}\p{N}_][\p{L}\p{N}._-]*)/uy, build: channelLink, atWord: true},
];
const RULES_BY_FIRST = groupByFirst(RULES);

function groupByFirst(rules) {
  const groups = new Map();
  for (const rule of rules) groups.set(rule.first, [...(groups.get(rule.first) || []), rule]);
  return groups;
}

/* The nodes and strings that a run of text becomes. */
function inline(text, depth = 0) {
  if (depth > DEEPEST_INLINE) return [text];
  const parts = [];
  let plain = 0;
  for (let at = 0; at < text.length;) {
    const found = matchAt(text, at, depth);
    if (!found) {
      at += 1;
      continue;
    }
    if (at > plain) parts.push(text.slice(plain, at));
    parts.push(...[found.node].flat());
    at += found.length;
    plain = at;
  }
  if (plain < text.length) parts.push(text.slice(plain));
  return parts;
}

function matchAt(text, at, depth) {
  for (const rule of RULES_BY_FIRST.get(text[at]) || []) {
    if (rule.atWord && at && /[\p{L}\p{N}@]/u.test(text[at - 1])) continue;
    rule.pattern.lastIndex = at;
    const match = rule.pattern.exec(text);
    const node = match && rule.build(match, depth);
    if (node) return {node, length: match.used || match[0].length};
  }
  return null;
}

function wrapIn(tag) {
  return ([, content], depth) => make(tag, {}, ...inline(content, depth + 1));
}

/* What leads to a place in this chat opens in this page. */
function linkTo(address, ...content) {
  const own = address.replace(`${location.origin}/#/`, '#/');
  if (own.startsWith('#/')) return make('a', {href: own}, ...content);
  return make('a', {href: address, target: '_blank', rel: 'noopener noreferrer'}, ...content);
}

function namedLink([, text, address], depth) {
  return linkTo(address, ...inline(text, depth + DEEPEST_INLINE));
}

/* The stop that ends a sentence is not part of an address, a bracket only when it was opened in it. */
function bareLink(match) {
  let address = match[0];
  const [tail] = TRAILING.exec(address) || [''];
  const opened = address.includes('(') && tail.startsWith(')');
  address = address.slice(0, address.length - tail.length) + (opened ? ')' : '');
  match.used = address.length;
  return linkTo(address, address);
}

/* A dash or an underscore may end the sentence and not the name. */
function mention(match) {
  for (const name of [match[1], match[1].replace(/[-_]+$/, '')]) {
    const node = mentionOf(name);
    match.used = name.length + 1;
    if (node) return node;
  }
  return null;
}

function mentionOf(name) {
  const wanted = name.toLowerCase();
  if (['everyone', 'here'].includes(wanted)) return make('span', {className: 'mention', 'data-call': wanted}, `@${name}`);
  const user = [...state.users.values()].find(other => other.username.toLowerCase() === wanted);
  if (!user) return null;
  const className = user.id === state.me.id ? 'mention me' : 'mention';
  return make('span', {className, title: user.display_name, 'data-user-id': user.id}, `@${name}`);
}

/* Only channels one can see are known here, so that no name is given away. */
function channelLink(match) {
  const name = match[1].replace(/[.-]+$/, '');
  match.used = name.length + 1;
  const channel = [...state.channels.values()].find(other => other.kind !== 'direct' && other.name.toLowerCase() === name.toLowerCase());
  return channel ? make('a', {className: 'mention', href: addressOf(channel.id)}, `#${name}`) : null;
}
