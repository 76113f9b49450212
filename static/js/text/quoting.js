/** A message as a quote in another: who said it, a link to it, and its words line by line. */

const CODE = /(```[^]*?(?:```|$)|`[^`\n]*`)/;
const MARKS = /[\\`*_~[\]#>|@-]/g;

/**
 * The text that passes a message on, at most `limit` code points: `comment` above, then the quote of `text` by `name`,
 * with a link in the words `place` to `address`.
 */
export function quoting({comment, name, place, address, text, limit}) {
  const head = `**${name.replace(MARKS, '\\$&')}** [${place.replace(/[[\]]/g, '')}](${address})`;
  const above = comment.trim() ? `${comment.trim()}\n\n` : '';
  const letters = [...`${above}${lines(text ? `${head}\n${calm(text)}` : head)}`.trimEnd()];
  return letters.length > limit ? `${letters.slice(0, limit - 1).join('')}…` : letters.join('');
}

const lines = text => text.split('\n').map(line => `> ${line}`.trimEnd()).join('\n');

/* Who was named by the original is not named again: a word joiner after the @ keeps its look. What is code stays as it is. */
function calm(text) {
  return text.split(CODE).map((part, index) => index % 2 ? part : part.replace(/@(?=[\w-])/g, '@\u2060')).join('');
}
