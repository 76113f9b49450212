/** The administration: bots, which come in with a token, and hooks, addresses that post to one channel. */
import {get, patch, post, remove} from '../core/api.js';
import {make} from '../core/dom.js';
import {channelName, state} from '../core/state.js';
import {adminWords as words} from '../text/admin-words.js';
import {asOthersSee, button, card, copyField, listRow, paragraph, postAndJoining, selectField, showOnce} from './admin-parts.js';
import {ask, field, openForm} from './dialog.js';
import {attempt, toast} from './toast.js';

/** Fills the part about programs. */
export function drawPrograms(body) {
  fillPrograms(body);
}

async function fillPrograms(body) {
  const found = await attempt(() => Promise.all([get('/admin/users'), get('/admin/hooks')]));
  if (!found) return;
  const [{users}, {hooks}] = found;
  const behindHooks = new Set(hooks.map(hook => hook.user_id));
  /* A hook that was removed leaves a closed account, which nobody needs to see. */
  const bots = users.filter(user => user.role === 'bot' && !behindHooks.has(user.id) && !(user.username.startsWith('hook-') && !user.active));
  body.replaceChildren(
    listCard(words.bots, words.botsLead, words.noBots, bots.map(bot => botRow(body, bot)), button(words.newBot, () => newBot(body), {picture: 'plus'})),
    listCard(words.hooks, words.hooksLead, words.noHooks, hooks.map(hook => hookRow(body, hook)), button(words.newHook, () => newHook(body), {picture: 'plus'})));
}

const listCard = (title, lead, none, rows, aside) => card(title, [paragraph(lead), ...(rows.length ? rows : [paragraph(none)])], aside);

function botRow(body, bot) {
  const turn = bot.active ? words.deactivateNow : words.reactivate;
  const about = [bot.display_name ? bot.username : '', bot.active ? '' : words.closed].filter(Boolean).join(' · ');
  return listRow(bot.display_name || bot.username, about, [
    bot.active ? button(words.newToken, () => renewToken(bot), {name: words.newTokenFor(bot.username)}) : null,
    button(turn, () => setActive(body, bot, !bot.active), {name: bot.active ? words.turnOffBot(bot.username) : ''}),
  ].filter(Boolean));
}

async function setActive(body, bot, active) {
  if (!active && !await ask(words.deactivateQuestion(bot.username), words.deactivateText, words.deactivateNow, {danger: true})) return;
  const done = active ? words.turnedOn(bot.username) : words.turnedOff(bot.username);
  if (await attempt(() => patch(`/admin/users/${bot.id}`, {active}))) toast(done, {name: 'shield'});
  await fillPrograms(body);
}

function newBot(body) {
  openForm(words.newBot, [field('username', words.botName, {autocomplete: 'off'})], words.makeBot, async ({username}) => {
    const {user, token} = await post('/admin/bots', {username: username.trim()});
    showToken(user.username, token);
    await fillPrograms(body);
  });
}

async function renewToken(bot) {
  if (!await ask(words.newTokenQuestion(bot.username), words.newTokenText, words.change)) return;
  const made = await attempt(() => post(`/admin/bots/${bot.id}/token`));
  if (made) showToken(bot.username, made.token);
}

const showToken = (name, token) => showOnce(words.botMade(name), words.tokenText, [copyField(token)]);

function newHook(body) {
  const channels = [...state.channels.values()].filter(channel => channel.joined && channel.kind !== 'direct' && !channel.archived);
  openForm(words.newHook, [
    field('name', words.hookName, {autocomplete: 'off', maxLength: 60}),
    selectField('channel_id', words.hookChannel, channels.map(channel => [channel.id, `#${channel.name}`]), {chosen: channels.length && channels[0].id}),
  ], words.makeHook, async ({name, channel_id: channelId}) => {
    const [{url: made}, joining] = await postAndJoining('/admin/hooks', {name, channel_id: Number(channelId)});
    const url = asOthersSee(made, joining);
    showOnce(words.hookMade(name), words.hookText, [
      copyField(url), make('b', {}, words.example), copyField(`curl --cacert ca.pem -d "${words.exampleText}" ${url}`), paragraph(words.exampleHint),
    ]);
    await fillPrograms(body);
  });
}

function hookRow(body, hook) {
  const channel = state.channels.get(hook.channel_id);
  return listRow(hook.name, words.postsTo(channel ? channelName(channel) : ''), button(words.removeHook, async () => {
    if (!await ask(words.removeHookQuestion(hook.name), words.removeHookText, words.removeHook, {danger: true})) return;
    await attempt(async () => {
      await remove(`/admin/hooks/${hook.id}`);
      toast(words.hookRemoved, {name: 'x'});
    });
    await fillPrograms(body);
  }, {name: words.removeHookNamed(hook.name)}));
}
