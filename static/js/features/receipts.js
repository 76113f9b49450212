/** Who has seen a message of one's own: their names, from its menu. */
import {get} from '../core/api.js';
import {find, make} from '../core/dom.js';
import {memberCount, openChannel, state} from '../core/state.js';
import {laterWords} from '../text/later-words.js';
import {addMessageAction} from '../views/message.js';
import {attempt} from '../views/toast.js';

addMessageAction({
  name: 'readers', icon: 'eye', label: laterWords.seenBy, order: 60, run: showReaders,
  may: message => message.id && message.kind === 'text' && !message.deleted && message.user_id === state.me.id && memberCount(openChannel()) > 1,
});

async function showReaders(message, article) {
  const [answer, {openMenu}, {peopleOf, personRow, startDirect}] = await Promise.all([
    attempt(() => get(`/messages/${message.id}/readers`)), import('../views/menu.js'), import('../views/people.js'),
  ]);
  if (!answer) return;
  const people = peopleOf(answer.users);
  const title = people.length ? `${laterWords.seenBy} ${people.length}` : laterWords.seenByNobody;
  const rows = people.map(user => personRow(user));
  for (const row of rows) row.setAttribute('role', 'menuitem');
  const list = make('div', {className: 'people readers'}, make('h3', {className: 'people-head'}, title), ...rows);
  list.addEventListener('click', event => {
    const row = event.target.closest('.person');
    if (!row) return;
    row.dispatchEvent(new CustomEvent('menu-done', {bubbles: true}));
    startDirect([Number(row.dataset.userId)]);
  });
  openMenu(find('.body', article), title, [list]);
}
