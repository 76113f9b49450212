/** What one can do with the open channel: how one hears of it, its name and topic, archiving, leaving. */
import {ApiError} from '../core/api.js';
import {find} from '../core/dom.js';
import {channelName, mayManage, mayRestrict, memberCount, openChannel} from '../core/state.js';
import {channelWords} from '../text/channel-words.js';
import {words} from '../text/words.js';
import {changeChannel, changeMembership, leaveChannel} from '../views/channel.js';
import {ask, field, openForm, radios} from '../views/dialog.js';
import {choices, openMenu} from '../views/menu.js';
import {attempt} from '../views/toast.js';

const joined = channel => channel.joined;
const joinedDirect = channel => channel.joined && channel.kind === 'direct';

const ACTIONS = [
  {icon: 'users', label: channel => words.showMembers(memberCount(channel)), may: () => true, run: () => find('#members').click()},
  {icon: 'star', label: channel => channel.favourite ? words.noFavourite : words.makeFavourite, may: joined, run: favour},
  {icon: 'edit', label: () => words.rename, may: mayManage, run: rename},
  {icon: 'quote', label: () => words.setTopic, may: mayManage, run: setTopic},
  {icon: 'inbox', label: channel => channel.archived ? words.unarchive : words.archive, may: mayManage, run: archive},
  {icon: 'download', label: () => channelWords.export, may: joined, run: exportChannel},
  {icon: 'x', label: () => words.hide, may: joinedDirect, run: hide},
  {icon: 'logout', label: () => words.leave, may: channel => channel.joined && channel.kind !== 'direct', run: leaveChannel, danger: true},
];

document.addEventListener('click', event => {
  const menuButton = event.target.closest('#channel-menu');
  if (menuButton) openChannelMenu(menuButton);
  if (event.target.closest('.set-topic')) setTopic(openChannel());
});

function openChannelMenu(button) {
  const channel = openChannel();
  const items = ACTIONS.filter(action => action.may(channel))
    .map(action => ({...action, label: action.label(channel), run: () => action.run(channel)}));
  const rows = [channel.joined && hearing(channel), mayRestrict(channel) && writing(channel)].filter(Boolean);
  openMenu(button, words.channelMenu, rows.length ? [...rows, 'rule', ...items] : items);
}

function hearing(channel) {
  return choices(words.notify, words.notifyLevels, channel.notify, notify => changeMembership(channel, {notify}));
}

function writing(channel) {
  return choices(channelWords.whoWrites, channelWords.writers, channel.posting, posting => attempt(() => changeChannel(channel, {posting})));
}

function favour(channel) {
  return changeMembership(channel, {favourite: !channel.favourite});
}

async function hide(channel) {
  if (await changeMembership(channel, {hidden: true}) !== null) location.hash = '#/';
}

function rename(channel) {
  const name = field('name', words.name, {hint: words.nameHint, value: channel.name, maxLength: 80, autocomplete: 'off', autocapitalize: 'none'});
  openForm(words.renameChannel(channel.name), [name], words.rename, values => {
    if (!values.name.trim()) throw new ApiError(400, {error: words.nameMissing, field: 'name'});
    return changeChannel(channel, {name: values.name.trim()});
  });
}

function setTopic(channel) {
  const topic = field('topic', words.topic, {hint: words.topicHint, value: channel.topic || '', maxLength: 250, autocomplete: 'off'});
  openForm(words.topicOf(channel.name), [topic], words.save, values => changeChannel(channel, {topic: values.topic.trim()}));
}

async function archive(channel) {
  const archived = !channel.archived;
  if (archived && !await ask(words.archiveQuestion(channel.name), words.archiveExplained, words.archive)) return;
  await attempt(() => changeChannel(channel, {archived}));
}

function exportChannel(channel) {
  const fields = [
    field('begin', channelWords.exportFrom, {type: 'date'}),
    field('end', channelWords.exportTo, {type: 'date', hint: channelWords.exportHint}),
    radios('format', channelWords.exportAs, channelWords.exportForms, 'html'),
  ];
  openForm(channelWords.exportTitle(channelName(channel)), fields, channelWords.exportNow,
    ({begin, end, format}) => location.assign(`/export/${channel.id}?${new URLSearchParams({from: begin, to: end, format})}`));
}
