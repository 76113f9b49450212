/** A bounded window on one channel's messages, oldest first; pages are fetched at both ends. */
import {get} from './api.js';

const LIMIT = 200;
const PAGE = 50;

export class MessageWindow {
  constructor(channelId) {
    this.channelId = channelId;
    this.messages = [];
    this.moreBefore = false;
    this.moreAfter = false;
    this.loaded = false;
    this.loading = null;
    this.turn = 0;
    this.asking = 0;
    this.early = [];
  }

  get newestId() {
    return this.messages.length ? this.messages[this.messages.length - 1].id : 0;
  }

  has(id) {
    return this.messages.some(message => message.id === id);
  }

  hasClientId(userId, clientId) {
    return this.messages.some(message => message.client_id === clientId && message.user_id === userId);
  }

  openLatest() {
    return this.replaceBy('');
  }

  /** The surroundings of one message; 0 is the very beginning. */
  openAround(id) {
    return this.replaceBy(id ? `around=${id}` : 'after=0');
  }

  /* Only the last of several jumps counts, in whatever order the answers come. */
  async replaceBy(query) {
    const turn = this.turn += 1;
    const page = await this.fetchPage(query);
    if (turn !== this.turn) return;
    /* The turn ends here: a page asked for meanwhile joins on to what is no longer shown. */
    Object.assign(this, {messages: page.messages, moreBefore: page.more_before, moreAfter: page.more_after, loaded: true, turn: turn + 1});
    this.catchUp();
  }

  async fetchPage(query) {
    /* What an earlier page that failed or came too late left behind may have changed again since. */
    if (!this.asking) this.early = [];
    this.asking += 1;
    try {
      return await get(`/channels/${this.channelId}/messages?limit=${PAGE}${query && `&${query}`}`);
    } finally {
      this.asking -= 1;
    }
  }

  /* A page may have been read before news that arrived ahead of it. */
  catchUp() {
    const {early} = this;
    this.early = this.asking ? early : [];
    for (const message of early) this.insert(message, true);
  }

  /** Fetches the page before or after; `commit` is called around the change, so that the view can stay put. */
  async extend(end, commit) {
    if (this.loading || !this.loaded) return;
    const [oldest] = this.messages;
    const {turn} = this;
    this.loading = this.fetchPage(end === 'before' ? `before=${oldest ? oldest.id : 0}` : `after=${this.newestId}`);
    try {
      const page = await this.loading;
      if (turn === this.turn) commit(() => this[end === 'before' ? 'putBefore' : 'putAfter'](page));
    } finally {
      this.loading = null;
    }
  }

  putBefore(page) {
    this.messages = [...page.messages, ...this.messages];
    this.moreBefore = page.more_before;
    this.trimEnd();
    this.catchUp();
  }

  putAfter(page) {
    this.messages = merge(this.messages, page.messages);
    this.moreAfter = page.more_after;
    this.trimStart();
    this.catchUp();
  }

  trimEnd() {
    if (this.messages.length <= LIMIT) return;
    this.messages = this.messages.slice(0, LIMIT);
    this.moreAfter = true;
  }

  trimStart() {
    if (this.messages.length <= LIMIT) return;
    this.messages = this.messages.slice(-LIMIT);
    this.moreBefore = true;
  }

  /**
   * Takes in a message as it is now. Returns 'changed', 'added', or 'beyond' when it is news that lies after the window.
   * `following` says that the view stands at the end, so that old messages may go.
   */
  take(message, following) {
    if (this.asking) this.early.push(message);
    return this.loaded ? this.insert(message, following) : 'elsewhere';
  }

  insert(message, following) {
    const at = this.messages.findIndex(other => other.id === message.id);
    if (at >= 0) return this.change(at, message);
    if (message.id < this.newestId) return this.insertWithin(message);
    if (this.moreAfter) return 'beyond';
    if (!following && this.messages.length >= LIMIT) return this.leaveBeyond();
    this.messages = [...this.messages, message];
    this.trimStart();
    return 'added';
  }

  /* The answer to what one sends oneself may overtake the news of what others sent before. */
  insertWithin(message) {
    const at = this.messages.findIndex(other => other.id > message.id);
    if (message.deleted || (at === 0 && this.moreBefore)) return 'elsewhere';
    this.messages = [...this.messages.slice(0, at), message, ...this.messages.slice(at)];
    this.trimStart();
    return 'added';
  }

  change(at, message) {
    this.messages = this.messages.map((other, index) => index === at ? message : other);
    return 'changed';
  }

  leaveBeyond() {
    this.moreAfter = true;
    return 'beyond';
  }
}

function merge(messages, more) {
  const known = new Set(messages.map(message => message.id));
  return [...messages, ...more.filter(message => !known.has(message.id))];
}
