/** The looks of calls, which come with them. */
import * as dom from '../core/dom.js';

/** Resolves once calls look as they should, or cannot. */
export const styled = () => dom.styled('call', 'call-places');
