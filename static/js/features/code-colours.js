/** Colours in code blocks: comments, strings, numbers, and the words that most languages share. */
import {find, findAll, make} from '../core/dom.js';
import {onMessageDrawn} from '../views/message.js';

const LONGEST = 5000;
const HASH_COMMENTS = ['', 'sh', 'bash', 'py', 'python', 'yaml', 'yml', 'toml', 'ini', 'ruby', 'rb', 'conf'];
const KEYWORDS = new Set(('and as async await break case catch class const continue def del do done elif else end except export false False fi '
  + 'finally fn for from func function if import in is let new nil None not null or pass raise return self switch then this throw true True '
  + 'try var void while with yield SELECT FROM WHERE INSERT UPDATE DELETE INTO VALUES JOIN ON ORDER BY GROUP LIMIT CREATE TABLE').split(' '));

/* The first that fits where the text stands wins: what lies in a string is no comment, and 12:10 is a time, not two numbers. */
const STRING = /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/.source;
const WORD = /[\w$][\w$:.-]*/.source;
const WITH_HASH = new RegExp(`(^#[^\\n]*|\\s#[^\\n]*)|(${STRING})|(${WORD})`, 'gm');
const WITH_SLASHES = new RegExp(`(//[^\\n]*|/\\*[^]*?\\*/|--\\s[^\\n]*)|(${STRING})|(${WORD})`, 'gm');

onMessageDrawn(article => {
  for (const block of findAll('.code-block', article)) colour(find('code', block), find('[data-slot="language"]', block).textContent.toLowerCase());
});

function colour(code, language) {
  const text = code.textContent;
  if (text.length > LONGEST) return;
  let plain = language ? 0 : endOfHeads(text);
  const nodes = plain ? [make('span', {className: 'comment'}, text.slice(0, plain))] : [];
  for (const match of text.matchAll(HASH_COMMENTS.includes(language) ? WITH_HASH : WITH_SLASHES)) {
    const kind = match.index >= plain && kindOf(match, language);
    if (!kind) continue;
    nodes.push(text.slice(plain, match.index), make('span', {className: kind}, match[0]));
    plain = match.index + match[0].length;
  }
  code.replaceChildren(...nodes, text.slice(plain));
}

/* Readings are often pasted as a table: a line of words above lines of numbers. */
function endOfHeads(text) {
  return /^[^\d\n]+\n.*\d/.test(text) ? text.indexOf('\n') : 0;
}

function kindOf([, comment, string, word], language) {
  if (comment) return 'comment';
  if (string) return 'string';
  if (/^\d+(\.\d+)?$/.test(word)) return 'number';
  return language && KEYWORDS.has(word) ? 'keyword' : '';
}
