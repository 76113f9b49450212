/** Where the words that were searched for stand in a text. */

const FILTER = /(?<!\S)(?:from|in|before|after|has):\S*/g;
const WANTED = /"[^"]*"?|[^\s"]+/g;
const SPECIAL = /[.*+?^${}()|[\]\\/]/g;

/** A function that finds what a query asks for: `hits(text)` gives [[from, to]], in order, nothing twice. */
export function hitsOf(query) {
  const wanted = (query.replace(FILTER, ' ').match(WANTED) || []).map(word => word.replace(/"/g, '').trim()).filter(Boolean);
  if (!wanted.length) return () => [];
  const any = wanted.map(word => fold(word).replace(SPECIAL, '\\$&').replace(/\s+/g, '\\s+')).join('|');
  const atWord = new RegExp(`(?<![\\p{L}\\p{N}])(?:${any})[\\p{L}\\p{N}]*`, 'gu');
  /* Not all scripts put spaces between words. */
  const anywhere = new RegExp(any, 'gu');
  return text => {
    const plain = fold(text);
    const found = spans(plain, atWord);
    return found.length ? found : spans(plain, anywhere);
  };
}

const spans = (text, pattern) => [...text.matchAll(pattern)].map(match => [match.index, match.index + match[0].length]);

/* Without case and accents, letter for letter, so that places stay the same. */
function fold(text) {
  return Array.from({length: text.length}, (_, at) => text[at].normalize('NFD')[0].toLowerCase()[0]).join('');
}
