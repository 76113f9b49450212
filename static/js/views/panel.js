/** The panel at the right: beside the sheet where there is room, over it below, a full page on phones. */
import {fill, find, make, setSlot} from '../core/dom.js';
import {listen, tell} from '../core/state.js';

const BESIDE = matchMedia('(min-width: 1100px)');
const PHONE = matchMedia('(max-width: 719px)');
const panel = {name: '', opener: null};

const root = () => find('#panel');

/** The name of the panel that is open, or ''. */
export const openPanelName = () => panel.name;

/** Opens the panel called `name`: a title, buttons for its head, and its body. The same name again changes what is there. */
export function openPanel(name, {title, count = '', buttons = [], body}) {
  if (panel.name !== name) begin(name);
  setSlot(root(), 'title', [title, count === '' ? null : make('span', {className: 'muted'}, ` ${count}`)].filter(Boolean));
  setSlot(root(), 'buttons', buttons);
  /* The same body stays, and with it what is being typed there. */
  if (!root().contains(body)) setSlot(root(), 'body', body);
  root().setAttribute('aria-label', title);
}

function begin(name) {
  if (!panel.name) {
    panel.opener = document.activeElement;
    if (PHONE.matches) history.pushState({panel: true}, '');
    root().replaceChildren(fill('panel'));
    find('.close', root()).addEventListener('click', closePanel);
  }
  panel.name = name;
  root().hidden = false;
  find('.frame').classList.add('has-panel');
  find('#sheet').inert = PHONE.matches;
  root().focus({preventScroll: true});
  tell('panel', name);
}

/** Closes the panel and gives the focus back. */
export function closePanel() {
  if (!panel.name) return;
  hide();
  if (history.state && history.state.panel) history.back();
}

function hide() {
  panel.name = '';
  root().hidden = true;
  find('.frame').classList.remove('has-panel');
  find('#sheet').inert = false;
  if (panel.opener && panel.opener.isConnected) panel.opener.focus({preventScroll: true});
  tell('panel', '');
}

addEventListener('popstate', () => panel.name && PHONE.matches && hide());
document.addEventListener('keydown', event => {
  if (event.key === 'Escape' && panel.name && root().contains(event.target) && !find('dialog[open]')) closePanel();
});
PHONE.addEventListener('change', () => { find('#sheet').inert = Boolean(panel.name) && PHONE.matches; });
/* Over the sheet it stands in the way of what comes next. */
listen('route', () => panel.name && !BESIDE.matches && hide());
