/** On phones the sidebar is a drawer: by button, by a swipe from the edge, closed by Back. */
import {claim, find, isPhone} from '../core/dom.js';
import {goTo, listen} from '../core/state.js';

const EDGE = 24;
const TRAVEL = 56;

claim('#open-drawer, #close-drawer');

const isOpen = () => document.body.classList.contains('drawer-open');

function setOpen(open) {
  document.body.classList.toggle('drawer-open', open);
  find('#sheet').inert = open;
}

function openDrawer() {
  if (isOpen() || !isPhone()) return;
  history.pushState({drawer: true}, '');
  setOpen(true);
  find('#close-drawer').focus();
}

/* Opening added a step of history; closing takes it back, so that Back never has to be pressed twice. */
function closeDrawer() {
  if (!isOpen()) return;
  setOpen(false);
  if (history.state && history.state.drawer) history.back();
}

addEventListener('popstate', () => isOpen() && setOpen(false));
matchMedia('(max-width: 719px)').addEventListener('change', () => isOpen() && !isPhone() && closeDrawer());
listen('route', () => isOpen() && setOpen(false));

document.addEventListener('click', event => {
  if (event.target.closest('#open-drawer')) openDrawer();
  if (event.target.closest('#close-drawer') || event.target.id === 'scrim') closeDrawer();
  const link = isOpen() && event.target.closest('#sidebar a[href]');
  if (link) followFromDrawer(event, link);
});

/* The channel takes the place of the drawer's step. */
function followFromDrawer(event, link) {
  event.preventDefault();
  if (link.hash === location.hash) return closeDrawer();
  goTo(link.hash);
}

document.addEventListener('keydown', event => event.key === 'Escape' && !find('dialog[open]') && closeDrawer());

let touch = null;

document.addEventListener('touchstart', event => {
  const {clientX: x, clientY: y} = event.touches[0];
  touch = event.touches.length === 1 && !find('dialog[open]') && (isOpen() || x < EDGE) ? {x, y} : null;
}, {passive: true});

document.addEventListener('touchmove', event => {
  if (!touch) return;
  const across = event.touches[0].clientX - touch.x;
  if (Math.abs(across) < TRAVEL || Math.abs(event.touches[0].clientY - touch.y) > Math.abs(across)) return;
  touch = null;
  if (across > 0) openDrawer();
  else closeDrawer();
}, {passive: true});
