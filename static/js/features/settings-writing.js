/** Settings: what sends a message, and whether single letters are shortcuts. */
import {make} from '../core/dom.js';
import {settingsWords as words} from '../text/settings-words.js';
import {segmentRow, switchRow} from '../views/setting-controls.js';
import {addSettingsSection} from '../views/settings.js';

addSettingsSection({
  name: 'writing', icon: 'edit', label: words.writing, order: 40,
  draw: body => body.append(
    make('p', {className: 'lead'}, words.writingLead),
    segmentRow('send_key', words.sendKey, words.sendKeyHint, words.sendKeys, 'enter'),
    switchRow('single_keys', words.singleKeys, words.singleKeysHint, true),
  ),
});
