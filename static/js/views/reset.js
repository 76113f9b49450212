/** Setting a new password with a link that an administrator made. */
import {ApiError, get, post} from '../core/api.js';
import {fill, make, setSlot} from '../core/dom.js';
import {joiningWords} from '../text/joining-words.js';
import {words} from '../text/words.js';
import {clearErrors, submitted} from './form.js';
import {drawPage, postPatiently, wireEyes} from './sign-in.js';

/** Shows the page of a link; resolves when its person is signed in, or goes to sign in by another way. */
export async function resetPage(token) {
  const [welcome, link] = await Promise.all([get('/welcome'), readLink(token)]);
  const page = drawPage(welcome, link.username ? joiningWords.newPasswordFor(link.username) : joiningWords.linkVoid);
  await new Promise(done => {
    setSlot(page, 'forms', link.username ? buildForm(token, link, done) : voidNotice(link, done));
    page.querySelector('[name="new"], [data-slot="forms"] button').focus();
  });
  history.replaceState(null, '', '/');
}

async function readLink(token) {
  try {
    return await get(`/reset/${token}`);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    return {error: error.message};
  }
}

function voidNotice({error}, done) {
  const button = make('button', {type: 'button', className: 'button primary wide'}, joiningWords.toSignIn);
  button.addEventListener('click', done);
  return [make('p', {className: 'lead'}, error), button];
}

function buildForm(token, {username, password_min_length: shortest}, done) {
  const form = fill('reset-form', {
    lead: joiningWords.newPasswordLead, 'password-hint': words.passwordHint(shortest), submit: joiningWords.setPassword,
  });
  form.elements.username.value = username;
  wireEyes(form);
  form.addEventListener('submit', async event => {
    event.preventDefault();
    const change = values => setPassword(form, token, username, shortest, values.new);
    if (await submitted(form, change)) done();
  });
  return form;
}

async function setPassword(form, token, username, shortest, password) {
  if ([...password].length < shortest) throw new ApiError(400, {error: words.passwordShort(shortest), field: 'new'});
  await postPatiently(form, `/reset/${token}`, {new: password});
  clearErrors(form);
  await post('/login', {username, password}).catch(() => null);      /* then the sign-in page comes */
}
