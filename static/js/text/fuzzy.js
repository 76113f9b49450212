/** Finding by a few letters: in order, not necessarily side by side. */

const plain = text => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();

/** How well `query` fits `text`: 0 not at all; letters side by side and at the start of a word count for more. */
function fitness(query, text) {
  const wanted = plain(query.trim());
  const letters = plain(text);
  if (!wanted) return 1;
  const at = letters.indexOf(wanted);
  if (at >= 0) return 100 - Math.min(at, 40) + (startsWord(letters, at) ? 50 : 0);
  return scattered(wanted, letters);
}

function scattered(wanted, letters) {
  let score = 1;
  let at = -1;
  for (const letter of wanted) {
    const next = letters.indexOf(letter, at + 1);
    if (next < 0) return 0;
    score += next === at + 1 || startsWord(letters, next) ? 2 : 0;
    at = next;
  }
  return score;
}

/** Where the letters of `query` stand in `text`, as [[from, to]]; nothing where letters and marks cannot be told apart. */
export function placesOf(query, text) {
  const wanted = plain(query.trim());
  const letters = plain(text);
  if (!wanted || letters.length !== text.length) return [];
  const at = letters.indexOf(wanted);
  return at >= 0 ? [[at, at + wanted.length]] : scatteredPlaces(wanted, letters);
}

function scatteredPlaces(wanted, letters) {
  const places = [];
  for (const letter of wanted) {
    const from = places.length ? places[places.length - 1][1] : 0;
    const at = letters.indexOf(letter, from);
    if (at < 0) return [];
    places.push([at, at + 1]);
  }
  return places;
}

const startsWord = (letters, at) => at === 0 || /[\s._@-]/.test(letters[at - 1]);

/** The things that fit, best first; those that fit alike keep their order. */
export function fitting(query, things, textOf) {
  return things.map(thing => ({thing, score: fitness(query, textOf(thing))}))
    .filter(({score}) => score > 0)
    .sort((one, other) => other.score - one.score)
    .map(({thing}) => thing);
}
