/** Which emoji somebody uses. */
import {choosePreference, preference} from '../core/preferences.js';
import {FIRST_EMOJI, withTone} from '../text/emoji.js';

/* Two rows; the first few keep their places while they are used. */
const KEPT = 18;
const SETTLED = 5;

/** The skin tone the person chose. */
export const skinTone = () => preference('skin_tone', 0);

/** The emoji at hand, the latest first. */
export const emojiInOrder = () => [...new Set([...preference('emoji_used', []), ...FIRST_EMOJI.map(emoji => withTone(emoji, skinTone()))])].slice(0, KEPT);

/** The first `count` emoji for the person signed in. */
export const firstEmoji = count => emojiInOrder().slice(0, count);

/** Notes that an emoji was used. */
export function noteEmoji(emoji) {
  const order = emojiInOrder();
  const at = order.indexOf(emoji);
  if (at >= 0 && at < SETTLED) return;
  choosePreference('emoji_used', [emoji, ...order.filter(other => other !== emoji)].slice(0, KEPT));
}
