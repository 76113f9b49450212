/** Settings: the way to the page of the administrators. */
import {isAdmin, isHeard, tell} from '../core/state.js';
import {profileWords} from '../text/profile-words.js';
import {addSettingsSection} from '../views/settings.js';

addSettingsSection({
  name: 'admin', icon: 'shield', label: profileWords.admin, order: 150,
  may: () => isAdmin() && isHeard('go-admin'), run: () => tell('go-admin'),
});
