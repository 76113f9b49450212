/** The rows of a section of the settings: switch, one of few, slider, list; each shows and changes one preference. */
import {fill, make} from '../core/dom.js';
import {choosePreference, preference} from '../core/preferences.js';

/** A row: what it is, a line of explanation, and the control at its end. */
export function settingRow(label, hint, control, {below = false} = {}) {
  const row = fill('setting', {label, hint, control});
  row.classList.toggle('below', below);
  return row;
}

/** Ties a control to a preference: `show(value)` is called now and whenever it changes, here or elsewhere. */
export function bindPreference(control, name, fallback, show) {
  const sync = () => show(preference(name, fallback));
  control.dataset.preference = name;
  control.addEventListener('sync', sync);
  sync();
  return control;
}

/** On or off. */
export function switchRow(name, label, hint, fallback) {
  const input = make('input', {type: 'checkbox', role: 'switch', className: 'switch', 'aria-label': label});
  input.addEventListener('change', () => choosePreference(name, input.checked));
  return settingRow(label, hint, bindPreference(input, name, fallback, value => { input.checked = value; }));
}

/** One of few, side by side; `labels` maps the values to words. */
export function segmentRow(name, label, hint, labels, fallback) {
  return settingRow(label, hint, segment(name, label, labels, fallback));
}

function segment(name, label, labels, fallback) {
  const inputs = Object.keys(labels).map(value => make('input', {type: 'radio', name: `preference-${name}`, value}));
  const group = make('div', {className: 'segment', role: 'radiogroup', 'aria-label': label},
    ...inputs.map(input => make('label', {}, input, make('span', {}, labels[input.value]))));
  group.addEventListener('change', event => choosePreference(name, event.target.value));
  return bindPreference(group, name, fallback, value => {
    for (const input of inputs) input.checked = input.value === value;
  });
}

/** One of many, from a list; `labels` maps the values to words. */
export function selectRow(name, label, hint, labels, fallback) {
  const select = make('select', {'aria-label': label}, ...Object.entries(labels).map(([value, text]) => make('option', {value}, text)));
  select.addEventListener('change', () => choosePreference(name, select.value));
  const box = make('span', {className: 'input select'}, bindPreference(select, name, fallback, value => { select.value = value; }));
  return settingRow(label, hint, box);
}

/** A number between two ends, which `sayValue` puts into words; `ends` are drawn at both sides. */
export function sliderRow(name, label, hint, {min, max, step, fallback, sayValue, ends = []}) {
  const input = make('input', {type: 'range', min, max, step, 'aria-label': label});
  const output = make('output', {});
  const show = value => {
    output.textContent = sayValue(value);
    input.setAttribute('aria-valuetext', sayValue(value));
  };
  input.addEventListener('input', () => show(Number(input.value)));
  input.addEventListener('change', () => choosePreference(name, Number(input.value)));
  bindPreference(input, name, fallback, value => {
    input.value = value;
    show(value);
  });
  return settingRow(label, hint, make('span', {className: 'slider'}, ends[0], input, ends[1], output));
}
