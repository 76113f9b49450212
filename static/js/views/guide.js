/** The first steps of who runs the place: name it, let people in, trust the server. Each can be skipped. */
import {ApiError, get, patch} from '../core/api.js';
import {find, make} from '../core/dom.js';
import {state, tell} from '../core/state.js';
import {joiningWords as words} from '../text/joining-words.js';
import {field, openDialog, radios} from './dialog.js';
import {stayingForm} from './form.js';
import {invitationSheet} from './invitation.js';
import {attempt} from './toast.js';

const STEPS = [nameStep, peopleStep, trustStep];
const BEGUN_WITH = 'MiniMost';

/** Opens the guide at its first step. */
export function openGuide() {
  const body = make('div', {className: 'guide stack'});
  const dialog = openDialog(words.guide, body, {className: 'guide-dialog'});
  show(dialog, body, 0);
}

async function show(dialog, body, number) {
  const goOn = () => (number + 1 < STEPS.length ? show(dialog, body, number + 1) : dialog.close());
  const content = await STEPS[number](goOn);
  const heading = make('h3', {tabIndex: -1}, content.title);
  body.replaceChildren(make('p', {className: 'guide-step'}, words.guideStep(number + 1, STEPS.length)), heading, ...content.parts);
  (find('input[name="name"]', body) || heading).focus();
}

function nameStep(goOn) {
  const value = state.settings.name === BEGUN_WITH ? '' : state.settings.name;
  const form = stayingForm([field('name', words.placeName, {value, maxLength: 60, autocomplete: 'off', placeholder: BEGUN_WITH})], words.next, async ({name}) => {
    if (!name.trim()) throw new ApiError(400, {error: words.nameMissing, field: 'name'});
    await change({name: name.trim()});
    goOn();
  });
  find('.form-buttons', form).prepend(button(words.skip, 'ghost', goOn));
  return {title: words.nameTitle, parts: [make('p', {}, words.nameLead), form]};
}

async function change(values) {
  await patch('/admin/settings', values);
  Object.assign(state.settings, values);
  tell('settings');
}

async function peopleStep(goOn) {
  const joining = await attempt(() => get('/joining')) || {};
  const choice = radios('registration', words.whoMayJoin, words.registration, state.settings.registration);
  const hint = make('p', {className: 'hint'});
  const explain = () => { hint.textContent = state.settings.registration === 'invite' ? words.invitationsLater : ''; };
  choice.addEventListener('change', async event => {
    await attempt(() => change({registration: event.target.value}));
    explain();
  });
  explain();
  return {title: words.peopleTitle, parts: [choice, hint, invitationSheet(state.settings.name, joining), buttons(button(words.next, 'primary', goOn))]};
}

async function trustStep(goOn) {
  const {certificate} = await attempt(() => get('/joining')) || {certificate: 'own'};
  const link = make('a', {className: 'button secondary', href: '/trust', target: '_blank', rel: 'noopener'}, words.openTrust);
  const parts = [make('p', {}, words.trustLead[certificate])];
  if (certificate === 'own') parts.push(make('p', {}, words.readFingerprint));
  return {title: words.trustTitle, parts: [...parts, make('p', {className: 'hint'}, words.later), buttons(link, button(words.done, 'primary', goOn))]};
}

const buttons = (...all) => make('div', {className: 'form-buttons'}, ...all);

function button(text, kind, run) {
  const element = make('button', {type: 'button', className: `button ${kind}`}, text);
  element.addEventListener('click', run);
  return element;
}
