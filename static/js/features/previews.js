/** Where links lead, below the messages that carry them. */
import {remove} from '../core/api.js';
import {icon, label, make, slot} from '../core/dom.js';
import {state} from '../core/state.js';
import {mediaWords} from '../text/media-words.js';
import {onMessageDrawn} from '../views/message.js';
import {attempt} from '../views/toast.js';

onMessageDrawn((article, message) => {
  const below = slot(article, 'below');
  if (below) below.prepend(...(message.previews || []).map(preview => drawPreview(message, preview)));
});

function drawPreview(message, {id, url, title, description, site}) {
  const place = site || new URL(url).host;
  const link = make('a', {href: url, target: '_blank', rel: 'noopener noreferrer', dir: 'auto'}, title);
  return make('div', {className: 'preview'},
    make('span', {className: 'grow'},
      make('small', {className: 'ellipsis', dir: 'auto'}, place), link,
      description ? make('span', {className: 'about', dir: 'auto'}, description) : null),
    message.user_id === state.me.id ? hideButton(message, id) : null);
}

function hideButton(message, id) {
  const button = make('button', {type: 'button', className: 'icon-button'}, icon('x', 16));
  label(button, mediaWords.hidePreview);
  button.addEventListener('click', () => attempt(() => remove(`/messages/${message.id}/previews/${id}`)));
  return button;
}
