/** Which tab asks for news where the browser has no locks (plain HTTP): the one that was looked at last, also once it is hidden. */
import {broadcast, hear} from './store.js';

/* Nothing heard for so long (ms): the tab whose turn it was is gone. A quiet poll answers every 25 s. */
const SILENCE = 45000;
/* The others wait a different while each (ms) before one of them takes the turn of a closed tab. */
const SPREAD = 500;

/** Calls `begin()` when this tab is to ask and `end()` when another one does; returns what is to be called at every news heard. */
export function takeTurns(begin, end) {
  let mine = false;
  let timer = 0;
  const take = () => {
    if (mine) return;
    mine = true;
    clearTimeout(timer);
    broadcast('turn-taken');
    begin();
  };
  const wait = time => {
    clearTimeout(timer);
    if (!mine) timer = setTimeout(take, time);
  };
  hear('turn-taken', () => { mine = false; end(); wait(SILENCE); });
  hear('turn-free', () => wait(Math.random() * SPREAD));
  addEventListener('focus', take);
  document.addEventListener('visibilitychange', () => document.hidden || take());
  addEventListener('pagehide', () => mine && broadcast('turn-free'));
  take();
  return () => wait(SILENCE);
}
