/** Asking for messages while news goes on. */
import {get} from './api.js';

/** Asks one thing at a time, and keeps the messages that come in meanwhile: the answer may have been read before them. */
export class Asking {
  constructor() {
    this.heard = null;
  }

  note(message) {
    if (this.heard) this.heard.push(message);
  }

  /** The answer, with what was `heard` meanwhile; null while another is under way. Raises ApiError. */
  async ask(path) {
    if (this.heard) return null;
    this.heard = [];
    try {
      return {...await get(path), heard: this.heard};
    } finally {
      this.heard = null;
    }
  }
}
