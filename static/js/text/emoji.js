/** The emoji one can react with, each with the name that is read out. */

/* Seven rows of nine: what a crew answers with, faces, work, the weather. */
export const EMOJI = new Map([
  ['👍', 'thumbs up'], ['✅', 'done'], ['👀', 'looking'], ['🙏', 'thank you'], ['🎉', 'party'], ['❤️', 'heart'], ['😂', 'tears of joy'], ['😮', 'surprised'], ['👎', 'thumbs down'],
  ['👏', 'clapping'], ['💪', 'strong arm'], ['👋', 'waving hand'], ['👌', 'fine'], ['🤝', 'handshake'], ['✌️', 'victory'], ['🤞', 'crossed fingers'], ['🙌', 'raised hands'], ['🫡', 'salute'],
  ['😀', 'grinning'], ['😄', 'laughing'], ['😅', 'relieved sweat'], ['😉', 'winking'], ['😊', 'smiling'], ['😎', 'sunglasses'], ['🤔', 'thinking'], ['😐', 'neutral'], ['🙃', 'upside down'],
  ['😍', 'heart eyes'], ['🥳', 'celebrating'], ['🤯', 'mind blown'], ['😴', 'sleeping'], ['😢', 'crying'], ['😬', 'grimacing'], ['😡', 'angry'], ['🤒', 'ill'], ['🤷', 'shrug'],
  ['❌', 'cross'], ['❓', 'question'], ['❗', 'exclamation'], ['⚠️', 'warning'], ['⏳', 'waiting'], ['🔁', 'again'], ['➕', 'plus one'], ['💯', 'hundred'], ['⭐', 'star'],
  ['🔥', 'fire'], ['💡', 'idea'], ['🚀', 'rocket'], ['🔧', 'wrench'], ['⚓', 'anchor'], ['🔌', 'plug'], ['📌', 'pin'], ['📷', 'camera'], ['📦', 'parcel'],
  ['☕', 'coffee'], ['🍕', 'pizza'], ['🎂', 'cake'], ['🍺', 'beer'], ['☀️', 'sun'], ['🌧️', 'rain'], ['🌊', 'wave'], ['🐛', 'bug'], ['👻', 'ghost'],
]);

/** What an emoji is called; one that is not in the table is its own name. */
export const emojiName = emoji => EMOJI.get(emoji) || emoji;
