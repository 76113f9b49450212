/** Buttons and keys that put marks around text. */
import {icon, make} from '../core/dom.js';
import {listen} from '../core/state.js';
import {words} from '../text/words.js';
import {addTool, messageBox, prefixLines, wrapSelection} from '../views/composer.js';

const TOOLS = [
  {name: 'bold', size: 18, key: 'b', run: () => wrapSelection('**')},
  {name: 'italic', size: 18, key: 'i', run: () => wrapSelection('*')},
  {name: 'strike', size: 18, run: () => wrapSelection('~~')},
  {name: 'code', size: 19, run: markCode},
  {name: 'list', size: 19, run: () => prefixLines('- ')},
  {name: 'quote', size: 19, run: () => prefixLines('> ')},
  {name: 'link', size: 18, run: () => wrapSelection('[', '](https://)')},
];

function markCode() {
  const {selectionStart, selectionEnd, value} = messageBox();
  const lines = value.slice(selectionStart, selectionEnd).includes('\n');
  if (lines) wrapSelection('```\n', '\n```');
  else wrapSelection('`');
}

listen('composer-drawn', form => {
  for (const tool of TOOLS) addTool(form, 'format', toolButton(tool));
  messageBox().addEventListener('keydown', onKey);
});

function toolButton({name, size, key, run}) {
  const text = key ? `${words[name]} (Ctrl+${key.toUpperCase()})` : words[name];
  const button = make('button', {type: 'button', className: 'tool', 'aria-label': words[name], title: text}, icon(name, size));
  /* The text keeps the focus and its selection. */
  button.addEventListener('mousedown', event => event.preventDefault());
  button.addEventListener('click', run);
  return button;
}

function onKey(event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
  const tool = TOOLS.find(({key}) => key === event.key.toLowerCase());
  if (!tool) return;
  event.preventDefault();
  tool.run();
}
