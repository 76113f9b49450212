/** Settings: theme, density, text size, clock, dates, motion. */
import {drawingOf, make, useOf} from '../core/dom.js';
import {animatesImages, choosePreference} from '../core/preferences.js';
import {clockTime, dateLocales, dayName, PAGE_DATES} from '../text/measures.js';
import {settingsWords as words} from '../text/settings-words.js';
import {NORMAL_TEXT_SIZE} from '../views/appearance.js';
import {bindPreference, segmentRow, selectRow, sliderRow, switchRow} from '../views/setting-controls.js';
import {addSettingsSection} from '../views/settings.js';

const PREVIEW = {width: 185, height: 100};

addSettingsSection({
  name: 'appearance', icon: 'sun', label: words.appearance, order: 20,
  draw: body => body.append(
    make('p', {className: 'lead'}, words.appearanceLead),
    themeCards(),
    segmentRow('density', words.density, words.densityHint, words.densities, 'comfortable'),
    sliderRow('text_size', words.textSize, words.textSizeHint, textSizes()),
    withExample(switchRow('clock_24', words.clock, ' ', true), 'clock_24', () => words.clockHint(clockTime(Date.now()))),
    withExample(selectRow('dates', words.dates, ' ', languages(), PAGE_DATES), 'dates', () => words.datesHint(dayName(Date.now()))),
    switchRow('reduce_motion', words.reduceMotion, words.reduceMotionHint, false),
    switchRow('animate_images', words.animateImages, words.animateImagesHint, animatesImages()),
  ),
});

function themeCards() {
  const cards = make('div', {className: 'theme-cards', role: 'radiogroup', 'aria-label': words.theme},
    ...Object.entries(words.themes).map(([value, card]) => themeCard(value, card)));
  cards.addEventListener('change', event => choosePreference('theme', event.target.value === 'auto' ? null : event.target.value));
  return bindPreference(cards, 'theme', 'auto', value => {
    for (const input of cards.querySelectorAll('input')) input.checked = input.value === value;
  });
}

function themeCard(value, {title, text}) {
  const input = make('input', {type: 'radio', name: 'preference-theme', value});
  const drawings = value === 'auto' ? [preview('light'), preview('dark')] : [preview(value)];
  return make('label', {className: 'theme-card'}, make('span', {className: 'theme-preview'}, ...drawings), input,
    make('b', {}, title), make('small', {}, text));
}

function preview(theme) {
  const drawing = drawingOf(PREVIEW.width, PREVIEW.height, `0 0 ${PREVIEW.width} ${PREVIEW.height}`);
  drawing.dataset.theme = theme;
  drawing.append(useOf('#theme-preview'));
  return drawing;
}

function textSizes() {
  const ends = ['small', 'large'].map(size => make('span', {className: `letter ${size}`, 'aria-hidden': 'true'}, words.letter));
  const sayValue = size => words.percent(Math.round(100 * size / NORMAL_TEXT_SIZE));
  return {min: 14, max: 20, step: 1, fallback: NORMAL_TEXT_SIZE, sayValue, ends};
}

function languages() {
  const names = dateLocales().map(locale => [locale, new Intl.DisplayNames([locale], {type: 'language'}).of(locale)]);
  return {[PAGE_DATES]: words.datesOfPage, device: words.datesOfDevice, ...Object.fromEntries(names)};
}

/* The line below such a choice shows what it does. */
function withExample(row, name, say) {
  bindPreference(row.querySelector('small'), name, null, () => { row.querySelector('small').textContent = say(); });
  return row;
}
