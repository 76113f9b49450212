/** Signing in and signing up, on a page of its own or over the page that was open. */
import {ApiError, get, post} from '../core/api.js';
import {fill, find, findAll, label, make, setSlot, slot} from '../core/dom.js';
import {listen} from '../core/state.js';
import {joiningWords} from '../text/joining-words.js';
import {words} from '../text/words.js';
import {clearErrors, showError} from './form.js';
import {showJoining} from './invitation.js';

const BUSY_TRIES = 30;
const SIGN_IN_ONLY = {owner: true, registration: 'closed', password_min_length: 0};

let guideOffered = false;

/** Shows the sign-in page with what `GET /welcome` said; resolves when somebody is signed in. */
export async function signInPage(welcome) {
  const page = drawPage(welcome, words.signInTo(welcome.name));
  sayHowToReach(page);
  await new Promise(resolve => {
    setSlot(page, 'forms', buildForms(welcome, resolve));
    chooseTab(page, welcome.owner && !(invitedWith() && mayJoin(welcome)) ? 'sign-in' : 'sign-up');
  });
  if (!welcome.owner) listen('snapshot', offerGuide);
}

/* It helps those who are about to come in; who knows the way comes in without. */
async function sayHowToReach(page) {
  try {
    showJoining(page, await get('/joining'));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

/* Once, to whoever made the first account. */
async function offerGuide() {
  if (guideOffered) return;
  guideOffered = true;
  (await import('./guide.js')).openGuide();
}

/** Draws the page around the forms of those who are not signed in. */
export function drawPage(welcome, title) {
  const page = fill('sign-in-page', {title, foot: words.version(welcome.server.version)});
  document.title = words.signInTo(welcome.name);
  slot(page, 'title').dataset.place = welcome.name;
  find('#app').replaceChildren(page);
  return page;
}

const mayJoin = welcome => !welcome.owner || welcome.registration !== 'closed';

/* The code of the invitation whose link was followed. */
const invitedWith = () => (/^#\/join\/([\w-]+)$/.exec(location.hash) || [])[1] || '';

/** Asks for the password over the page; resolves to the user who signed in. */
export async function signInOverlay(username) {
  const {openDialog} = await import('./dialog.js');
  return new Promise(resolve => {
    const body = buildForms(SIGN_IN_ONLY, user => { dialog.close(); resolve(user); });
    setSlot(body, 'lead', words.signInAgainLead);
    const dialog = openDialog(words.signInAgain, body, {locked: true, className: 'sign-in-again'});
    const form = find('#sign-in', dialog);
    form.elements.username.value = username;
    form.elements.password.focus();
  });
}

function buildForms(welcome, done) {
  const forms = document.createElement('div');
  forms.append(fill('sign-in-forms', {
    lead: welcome.owner ? words.signInLead : words.firstAccountLead,
    'password-hint': words.passwordHint(welcome.password_min_length),
  }));
  slot(forms, 'tabs').hidden = welcome.owner && !mayJoin(welcome);
  if (welcome.setup_code_needed) askCode(forms);
  if (welcome.owner) sayHowToJoin(forms, welcome);
  for (const tab of findAll('[role="tab"]', forms)) tab.addEventListener('click', () => chooseTab(forms, tab.getAttribute('aria-controls')));
  slot(forms, 'tabs').addEventListener('keydown', event => event.key.startsWith('Arrow') && switchTab(forms));
  wireEyes(forms);
  wireForm(find('#sign-in', forms), '/login', welcome, forms, done);
  wireForm(find('#sign-up', forms), '/signup', welcome, forms, done);
  return forms;
}

function chooseTab(root, name) {
  const title = find('.page-title');
  if (title) title.textContent = (name === 'sign-up' ? words.joinPlace : words.signInTo)(title.dataset.place);
  for (const tab of findAll('[role="tab"]', root)) {
    const chosen = tab.getAttribute('aria-controls') === name;
    tab.setAttribute('aria-selected', String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    find(`#${tab.getAttribute('aria-controls')}`, root).hidden = !chosen;
  }
  const first = findAll(`#${name} input`, root).find(input => !input.closest('[hidden]') && !input.value);
  if (first) first.focus();
}

function switchTab(root) {
  const other = find('[role="tab"][aria-selected="false"]', root);
  chooseTab(root, other.getAttribute('aria-controls'));
  other.focus();
}

function askCode(forms) {
  slot(forms, 'code-field').hidden = false;
}

/* With an invitation one needs nothing else; where an administrator lets people in, it is as well to know. */
function sayHowToJoin(forms, welcome) {
  const code = invitedWith();
  setSlot(forms, 'join-hint', welcome.registration === 'approve' && !code ? joiningWords.approveHint : '');
  if (code) setSlot(forms, 'join-hint', joiningWords.invitedLead);
  if (!code && welcome.registration !== 'invite') return;
  setSlot(forms, 'code-label', joiningWords.inviteCode);
  setSlot(forms, 'code-hint', joiningWords.inviteCodeHint);
  askCode(forms);
  find('[name="code"]', forms).value = code;
}

export function wireEyes(root) {
  for (const eye of findAll('.eye', root)) eye.addEventListener('click', () => toggleEye(eye));
}

function toggleEye(eye) {
  const input = eye.parentElement.querySelector('input');
  const show = input.type === 'password';
  input.type = show ? 'text' : 'password';
  eye.setAttribute('aria-pressed', String(show));
  label(eye, show ? words.hidePassword : words.showPassword);
}

function wireForm(form, path, welcome, forms, done) {
  form.addEventListener('submit', async event => {
    event.preventDefault();
    if (form.dataset.busy) return;
    form.dataset.busy = 'yes';
    try {
      clearErrors(form);
      const body = readForm(form, path, welcome);
      const {user, waiting} = await postPatiently(form, path, body);
      if (waiting) showWaiting(forms, user);
      else done(user);
    } catch (error) {
      explain(form, forms, error);
    } finally {
      delete form.dataset.busy;
    }
  });
}

function showWaiting(forms, user) {
  find('.page-title').textContent = joiningWords.waitingTitle;
  forms.replaceChildren(make('p', {className: 'lead', role: 'status'}, joiningWords.waiting(user.username)));
}

function readForm(form, path, welcome) {
  const {username, password, code} = form.elements;
  const body = {username: username.value.trim(), password: password.value};
  if (!body.username) throw new ApiError(400, {error: words.usernameMissing, field: 'username'});
  if (!body.password) throw new ApiError(400, {error: words.passwordMissing, field: 'password'});
  if (path === '/login') return body;
  const shortest = welcome.password_min_length || 0;
  if ([...body.password].length < shortest) throw new ApiError(400, {error: words.passwordShort(shortest), field: 'password'});
  return code.value.trim() ? {...body, code: code.value.trim()} : body;
}

/* Hashing is slow on purpose: a crowd that signs in together makes the server say "busy", and the wait is ours. */
export async function postPatiently(form, path, body) {
  for (let left = BUSY_TRIES; ; left -= 1) {
    try {
      return await post(path, body);
    } catch (error) {
      if (error.status !== 503 || !left) throw error;
      const seconds = error.retryAfter || 1;
      find('.form-note', form).textContent = words.busyRetrying(seconds);
      await new Promise(resolve => setTimeout(resolve, seconds * 1000));
    }
  }
}

function explain(form, forms, error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.code === 'setup_code_needed') return explainCode(form, forms, error);
  const wait = error.retryAfter && words.wait(error.retryAfter);
  if (error.status === 429 && wait) return showError(form, new ApiError(429, {error: words.waitBefore(wait)}));
  if (error.status === 423 && wait) return showError(form, new ApiError(423, {error: words.accountLocked(wait)}));
  showError(form, error);
}

function explainCode(form, forms, error) {
  askCode(forms);
  find('[name="code"]', form).focus();
  showError(form, new ApiError(403, {error: error.message, field: 'code'}));
}

