/** Shortcodes that came as they were typed, such as those of programs, are drawn as the emoji they mean. */
import {slot} from '../core/dom.js';
import {emojiOfCode, isEmojiLoaded} from '../text/emoji.js';
import {learnEmoji} from '../views/emoji-names.js';
import {isOnlyEmoji, onMessageDrawn} from '../views/message.js';

const CODE = /:([a-z0-9_+-]{1,40}):/gi;

onMessageDrawn((article, message) => {
  if (message.kind !== 'text' || !(message.text || '').match(CODE)) return;
  if (isEmojiLoaded()) drawCodes(article);
  else learnEmoji();
});

function drawCodes(article) {
  const text = slot(article, 'text');
  const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.parentElement.closest('code, pre, a')) node.data = withEmoji(node.data);
  }
  article.classList.toggle('only-emoji', isOnlyEmoji(text.textContent));
}

/* A colon after a letter or another colon belongs to a time or to a program, unless that one ended an emoji. */
function withEmoji(text) {
  let end = -1;
  return text.replace(CODE, (whole, code, at) => {
    const emoji = at === end || !/[\p{L}\p{N}:]/u.test(text[at - 1] || '') ? emojiOfCode(code) : null;
    if (emoji) end = at + whole.length;
    return emoji || whole;
  });
}
