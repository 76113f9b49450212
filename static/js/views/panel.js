/** The panel at the right: beside the sheet where there is room, over it below, a full page on phones. */
import {fill, find, make, setSlot, slot} from '../core/dom.js';
import {goTo, listen, tell} from '../core/state.js';

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
  /* A button that stays keeps the focus. */
  if (!sameNodes(slot(root(), 'buttons').childNodes, buttons)) setSlot(root(), 'buttons', buttons);
  /* The same body stays, and with it what is being typed there. */
  if (!root().contains(body)) setSlot(root(), 'body', body);
  root().setAttribute('aria-label', title);
}

const sameNodes = (one, other) => one.length === other.length && other.every((node, index) => node === one[index]);

/** Has the buttons of `selector` open the panel called `name`, by `show`, and close it again. */
export function tieButton(selector, name, show) {
  document.addEventListener('click', event => event.target.closest(selector) && toggle(name, show));
  listen('panel', opened => find(selector).setAttribute('aria-expanded', String(opened === name)));
}

async function toggle(name, show) {
  if (panel.name === name) return closePanel();
  await leaveDrawer();
  show();
}

/* On phones the drawer goes first, and with it its step of history. */
async function leaveDrawer() {
  if (!history.state || !history.state.drawer) return;
  const left = new Promise(resolve => addEventListener('popstate', resolve, {once: true}));
  find('#close-drawer').click();
  await left;
}

function begin(name) {
  if (!root().contains(document.activeElement)) panel.opener = document.activeElement;
  if (!panel.name) {
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

/* Where the panel is a page of its own, what one follows takes its place. */
function follow(event) {
  const link = event.target.closest('#panel a[href^="#/"]');
  if (!link || !history.state || !history.state.panel) return;
  if (link.hash === location.hash) return closePanel();
  event.preventDefault();
  goTo(link.hash);
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

document.addEventListener('click', follow);
addEventListener('popstate', () => panel.name && PHONE.matches && hide());
document.addEventListener('keydown', event => {
  if (event.key === 'Escape' && panel.name && root().contains(event.target) && !find('dialog[open]')) closePanel();
});
PHONE.addEventListener('change', () => { find('#sheet').inert = Boolean(panel.name) && PHONE.matches; });
/* Over the sheet it stands in the way of what comes next. */
listen('route', () => panel.name && !BESIDE.matches && hide());
