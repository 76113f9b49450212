/** The way signals take through the server: one poll that brings them, one request at a time that sends them. */
import {ApiError, get, post} from '../core/api.js';

const WAIT_SECONDS = 10;
/* A poll on a connection that died in silence brings nothing: an answer this late (ms) is none. */
const PATIENCE = (WAIT_SECONDS + 5) * 1000;
const RETRY = 1000;

/** The signals of one page in one call: `take(signal)` hears each, `lost(error)` that the server lets this page take part no more. */
export class Signals {
  constructor(callId, device, take, lost) {
    Object.assign(this, {callId, device, take, lost, cursor: '', waiting: new Map(), requests: 0});
    this.closed = false;
    this.sending = false;
    this.asking = null;
    this.wake = null;
  }

  open() {
    this.closed = false;
    this.listen();
  }

  close() {
    this.closed = true;
    this.again();
  }

  /** Asks anew at once, from the cursor: the poll under way may wait on a connection that is dead. */
  again() {
    if (this.asking) this.asking.abort();
    if (this.wake) this.wake();
  }

  async listen() {
    while (!this.closed) {
      try {
        await this.askOnce();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (this.closed) return;
        if (error.refused || error.status === 401) return void this.lost(error);
        await this.rest(error);
      }
    }
  }

  async askOnce() {
    this.asking = new AbortController();
    const {asking} = this;
    const timer = setTimeout(() => asking.abort(), PATIENCE);
    try {
      this.requests += 1;
      const query = `device=${this.device}&after=${encodeURIComponent(this.cursor)}&wait=${WAIT_SECONDS}`;
      const {cursor, signals} = await get(`/calls/${this.callId}/signals?${query}`, {signal: asking.signal});
      this.cursor = cursor;
      for (const signal of signals) if (!this.closed) this.take(signal);
    } finally {
      clearTimeout(timer);
      this.asking = null;
    }
  }

  /* One that was cut short on purpose goes on at once. */
  rest({status, retryAfter}) {
    if (status === 0 && navigator.onLine && !this.failedLast()) return null;
    return new Promise(resolve => {
      const timer = setTimeout(resolve, retryAfter * 1000 || RETRY);
      this.wake = () => { clearTimeout(timer); resolve(); };
    }).then(() => { this.wake = null; });
  }

  failedLast() {
    const now = performance.now();
    const soon = now - (this.failedAt || -PATIENCE) < RETRY;
    this.failedAt = now;
    return soon;
  }

  /** Sends something to a participant's page; what waits for the same one goes in one request, in order. */
  send(to, item) {
    this.waiting.set(to, [...this.waiting.get(to) || [], item]);
    if (!this.sending) this.empty();
  }

  /** Forgets what waits for somebody who has gone. */
  forget(to) {
    this.waiting.delete(to);
  }

  async empty() {
    this.sending = true;
    while (this.waiting.size && !this.closed) {
      const [to, items] = this.waiting.entries().next().value;
      this.waiting.delete(to);
      await this.post(to, items);
    }
    this.sending = false;
  }

  /* What the server refuses will not be taken later either: the other one has gone, or the poll hears that oneself has. */
  async post(to, items) {
    try {
      this.requests += 1;
      await post(`/calls/${this.callId}/signal`, {to, device: this.device, data: items});
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.refused) return;
      this.waiting.set(to, [...items, ...this.waiting.get(to) || []]);
      await new Promise(resolve => setTimeout(resolve, error.retryAfter * 1000 || RETRY));
    }
  }
}
