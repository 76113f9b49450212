/** Starting a direct conversation with one person or several. */
import {ApiError} from '../core/api.js';
import {state} from '../core/state.js';
import {words} from '../text/words.js';
import {openForm} from '../views/dialog.js';
import {everybodyBut, peoplePicker, startDirect} from '../views/people.js';

const MOST_OTHERS = 11;

document.addEventListener('click', event => event.target.closest('#add-direct, #new-message') && choosePeople());

function choosePeople() {
  const picker = peoplePicker([...everybodyBut([state.me.id]), state.me], {most: MOST_OTHERS});
  openForm(words.newDirect, [picker.element], words.startDirect, async () => {
    if (!picker.chosen().length) throw new ApiError(400, {error: words.chooseSomebody});
    await startDirect(picker.chosen());
  });
}
