/** Buttons beside the text: put an emoji where the caret is, or begin to mention somebody. */
import {find, icon, label, make, typeOver} from '../core/dom.js';
import {listen} from '../core/state.js';
import {words} from '../text/words.js';
import {addTool, messageBox} from '../views/composer.js';
import {addShortcut, shownKeys} from '../views/shortcuts.js';
import {fetched} from '../views/toast.js';

const EMOJI_KEYS = 'Ctrl+Shift+E';
const TOOLS = [
  {id: 'insert-emoji', icon: 'smile', size: 20, text: words.insert.emoji, keys: EMOJI_KEYS, popup: 'dialog', run: insertEmoji},
  {id: 'insert-mention', icon: 'at', size: 19, text: words.insert.mention, run: insertMention},
];

addShortcut({
  keys: EMOJI_KEYS, label: words.insert.emoji, group: 'writing',
  may: event => Boolean(messageBox()) && event.target === messageBox(), run: () => insertEmoji(find('#insert-emoji')),
});
listen('composer-drawn', addTools);
if (find('#composer')) addTools(find('#composer'));

function addTools(form) {
  for (const tool of TOOLS) addTool(form, 'insert', toolButton(tool));
}

function toolButton({id, icon: name, size, text, keys, popup, run}) {
  const button = make('button', {type: 'button', id, className: 'tool', 'aria-haspopup': popup}, icon(name, size));
  label(button, text);
  if (keys) button.title = `${text} (${shownKeys(keys)})`;
  /* The text keeps the focus and its selection. */
  button.addEventListener('mousedown', event => event.preventDefault());
  button.addEventListener('click', () => run(button));
  return button;
}

async function insertEmoji(button) {
  const picker = await fetched(import('../views/emoji-picker.js'));
  if (picker) picker.pickEmoji(button, put);
}

function put(text) {
  const box = messageBox();
  if (box) typeOver(box, box.selectionStart, box.selectionEnd, text);
}

/* In the middle of a word an @ would be a part of it. */
function insertMention() {
  const {value, selectionStart} = messageBox();
  put(/[^\s(]$/.test(value.slice(0, selectionStart)) ? ' @' : '@');
}
