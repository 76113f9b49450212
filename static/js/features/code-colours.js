/** Colours in code blocks, by a small grammar for each language that people paste most; all else has a grammar for the rest. */
import {find, findAll, make} from '../core/dom.js';
import {onMessageDrawn} from '../views/message.js';

const QUOTED = /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/.source;
const SLASHED = /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$(?![^]))/.source;
const HASHED = /(?<![^\s;])#[^\n]*/.source;
/* 12:10 is a time, not two numbers. */
const NUMBER = /(?<![\w$.:-])-?(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)[a-zA-Z%]{0,3}(?![\w$:.-]*[\w$])/.source;
const WORD = /(?<![\w$-])[A-Za-z_][\w-]*/.source;

/* What is found first where the text stands wins: what lies in a string is no comment. */
const GRAMMARS = [
  {
    names: 'py python py3 pyi',
    parts: {comment: HASHED, string: `[rbfuRBFU]{0,2}(?:"""[^]*?(?:"""|$(?![^]))|'''[^]*?(?:'''|$(?![^]))|${QUOTED})`, name: /^[ \t]*@[\w.]+/.source},
    words: 'and as assert async await break class continue def del elif else except finally for from global if import in is lambda match case '
      + 'nonlocal not or pass raise return try while with yield None True False self',
  },
  {
    names: 'js javascript mjs cjs jsx ts typescript tsx',
    parts: {comment: SLASHED, string: `${QUOTED}|\`(?:[^\`\\\\]|\\\\[^])*\``},
    words: 'abstract as async await break case catch class const continue debugger default delete do else enum export extends false finally for '
      + 'from function get if implements import in instanceof interface let new null of return set static super switch this throw true try type typeof '
      + 'undefined var void while yield',
  },
  {
    names: 'c h cpp c++ cc hpp java cs csharp go rust rs swift kotlin kt arduino ino',
    parts: {comment: SLASHED, string: QUOTED, name: /^[ \t]*#[ \t]*\w+/.source},
    words: 'abstract auto bool boolean break byte case catch char class const continue default defer delete do double else enum extern false final '
      + 'float fn for func go goto if impl import in inline int interface let long loop match mut namespace new nil NULL nullptr null package private '
      + 'protected pub public return short signed sizeof static string struct super switch template this throw trait true try type typedef union '
      + 'unsigned use using var virtual void volatile while',
  },
  {
    names: 'sh bash zsh shell console terminal dockerfile makefile',
    parts: {comment: HASHED, string: /"(?:[^"\\]|\\[^])*"|'[^']*'/.source, name: /\$(?:\{[^}\n]*\}|\w+|[?@#*!$])/.source},
    words: 'case cd do done echo elif else esac exit export fi for function if in local read return set shift source sudo then until while',
  },
  {
    names: 'json jsonc json5',
    parts: {comment: SLASHED, name: /"(?:[^"\\\n]|\\.)*"(?=\s*:)/.source, string: QUOTED},
    words: 'true false null',
  },
  {
    names: 'sql sqlite psql mysql',
    parts: {comment: `--[^\\n]*|${SLASHED}`, string: /'(?:[^']|'')*'/.source},
    anyCase: true,
    words: 'add all alter and as asc begin between by case check column commit constraint create cross default delete desc distinct drop else end '
      + 'exists explain false foreign from full group having if in index inner insert into is join key left like limit not null offset on or order '
      + 'outer pragma primary references right rollback select set table then trigger true union unique update using values view when where with',
  },
  {names: 'diff patch', parts: {place: /^(?:@@|diff |index |--- |\+\+\+ )[^\n]*/.source, added: /^\+[^\n]*/.source, removed: /^-[^\n]*/.source}, words: ''},
  {
    names: 'yaml yml toml ini conf cfg env rb ruby perl pl r',
    parts: {comment: HASHED, string: QUOTED, name: /^[ \t-]*[\w.-]+(?=\s*[:=])/.source},
    words: 'true false null yes no on off def end if else elsif unless do while return class module require',
  },
  /* Of a language that is named but unknown, what many have in common. */
  {
    names: '*',
    parts: {comment: `${SLASHED}|${HASHED}|(?<![^\\s])--[ \\t][^\\n]*`, string: QUOTED},
    words: 'begin break case class const continue def do else end false for function if import in let local new nil null return then true var while',
  },
  /* Without a name it may be anything, mostly readings: strings, numbers and remarks, no words. */
  {names: '', parts: {comment: HASHED, string: QUOTED}, words: ''},
];

const known = new Map();
for (const grammar of GRAMMARS) for (const name of grammar.names.split(' ')) known.set(name, compiled(grammar));

function compiled({parts, words, anyCase = false}) {
  const groups = Object.entries({...parts, number: NUMBER, word: WORD}).map(([name, source]) => `(?<${name}>${source})`);
  return {pattern: new RegExp(groups.join('|'), 'gm'), words: new Set(words.split(' ')), anyCase};
}

onMessageDrawn(article => {
  for (const block of findAll('.code-block', article)) colour(find('code', block), find('[data-slot="language"]', block).textContent.toLowerCase());
});

function colour(code, language) {
  const text = code.textContent;
  const grammar = known.get(language) || known.get('*');
  let plain = language ? 0 : endOfHeads(text);
  const nodes = plain ? [make('span', {className: 'comment'}, text.slice(0, plain))] : [];
  for (const match of text.matchAll(grammar.pattern)) {
    const kind = match.index >= plain && kindOf(match, grammar);
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

function kindOf({groups}, {words, anyCase}) {
  const [kind, text] = Object.entries(groups).find(([, found]) => found !== undefined);
  if (kind !== 'word') return kind;
  return words.has(anyCase ? text.toLowerCase() : text) ? 'keyword' : '';
}
