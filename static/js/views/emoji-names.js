/** The table of emoji for what is drawn with it: fetched when first needed, and then everything is drawn again. */
import {isEmojiLoaded, loadEmoji} from '../text/emoji.js';
import {outdateMessages} from './message.js';
import {redraw} from './timeline.js';

let asked = false;

/** Sees to it that names and shortcodes are known; what needs them is drawn without until then. */
export async function learnEmoji() {
  if (asked || isEmojiLoaded()) return;
  asked = true;
  try {
    await loadEmoji();
  } catch (error) {
    asked = false;
    return;
  }
  outdateMessages();
  redraw();
}
