/** One connection to one other participant: begun by one end alone, and mended by it. */
import {newId} from '../core/dom.js';

/** What a connection carries, in the order of its lines; they stand from the beginning, so that nothing is ever negotiated again. */
export const LINES = ['microphone', 'camera', 'screen', 'sound'];
const MEDIUM = {microphone: 'audio', camera: 'video', screen: 'video', sound: 'audio'};

/* How long (ms): until a first try that stands still is given up, and until a connection that broke off is mended. */
const STUCK = 8000;
const GRACE = 2000;
/* Where all is slow, trying again soon would only make it slower: each try has twice the time of the last, up to so many times the first. */
const MOST_PATIENCE = 4;

/** The connection with the page `device` of a user. `offers` says that this end begins; `send(item)` brings something to the other end. */
export class Peer {
  constructor({userId, device, offers, servers, tracks, send, changed}) {
    Object.assign(this, {userId, device, offers, servers, tracks, send, changed});
    Object.assign(this, {connection: null, attempt: '', attempts: 0, tries: 0, remote: {}, troubles: [], wasConnected: false, closed: false});
    this.since = performance.now();
    this.turn = Promise.resolve();
  }

  /** Begins, or asks the other end to. */
  start() {
    if (this.offers) this.inTurn(() => this.offer());
    else this.want();
  }

  want() {
    this.send({kind: 'want', attempt: this.attempt});
    this.watch();
  }

  close() {
    this.closed = true;
    this.drop();
  }

  drop() {
    clearTimeout(this.timer);
    if (!this.connection) return;
    for (const name of ['icecandidate', 'icecandidateerror', 'connectionstatechange']) this.connection[`on${name}`] = null;
    this.connection.close();
  }

  /* One step after the other; what the browser refuses is noted for the report, and the watch mends it. */
  inTurn(step) {
    this.turn = this.turn.then(() => this.closed || step()).catch(error => {
      if (!(error instanceof DOMException)) throw error;
      this.note(`${error.name}: ${error.message}`);
    });
    return this.turn;
  }

  note(text) {
    this.troubles = [...this.troubles.slice(-19), text];
  }

  /* -- the two ends */

  begin(attempt) {
    this.drop();
    this.attempt = attempt;
    this.attempts += 1;
    this.tries += 1;
    this.early = [];
    this.connection = new RTCPeerConnection({iceServers: this.servers, bundlePolicy: 'max-bundle'});
    this.connection.onicecandidate = ({candidate}) => candidate && this.send({kind: 'candidate', attempt, candidate});
    this.connection.onicecandidateerror = ({errorCode, url}) => this.note(`ICE ${errorCode} ${url || ''}`);
    this.connection.onconnectionstatechange = () => this.onState();
    this.watch();
  }

  async offer() {
    this.begin(newId());
    for (const name of LINES) this.connection.addTransceiver(MEDIUM[name], {direction: 'sendrecv'});
    await this.attach();
    await this.describe({});
  }

  async describe(options) {
    await this.connection.setLocalDescription(await this.connection.createOffer(options));
    this.send({kind: 'offer', attempt: this.attempt, sdp: this.connection.localDescription.sdp});
  }

  async answer({attempt, sdp}) {
    if (attempt !== this.attempt) this.begin(attempt);
    await this.connection.setRemoteDescription({type: 'offer', sdp});
    for (const transceiver of this.connection.getTransceivers()) transceiver.direction = 'sendrecv';
    await this.attach();
    await this.connection.setLocalDescription(await this.connection.createAnswer());
    this.send({kind: 'answer', attempt, sdp: this.connection.localDescription.sdp});
    await this.takeEarly();
  }

  /* What this end shows is put on its lines, what comes from the other is named. */
  async attach() {
    const transceivers = this.connection.getTransceivers();
    await Promise.all(LINES.map((name, index) => transceivers[index].sender.replaceTrack(this.tracks[name])));
    this.remote = Object.fromEntries(LINES.map((name, index) => [name, transceivers[index].receiver.track]));
    this.receivers = Object.fromEntries(LINES.map((name, index) => [name, transceivers[index].receiver]));
    this.changed(this);
  }

  /** Sends another track on a line from now on, or none. */
  put(name, track) {
    return this.inTurn(() => {
      const transceiver = this.connection && this.connection.getTransceivers()[LINES.indexOf(name)];
      return transceiver && transceiver.sender.replaceTrack(track);
    });
  }

  /* -- what the other end says */

  /** Takes something that the other end has sent. */
  take(item) {
    const TAKE = {want: this.onWant, offer: this.answer, answer: this.onAnswer, candidate: this.onCandidate};
    return this.inTurn(() => TAKE[item.kind] && TAKE[item.kind].call(this, item));
  }

  /* A try under way is watched here; only what stood before, or never was, is begun at the other end's wish. */
  onWant({attempt}) {
    if (!this.offers || this.connection && !this.wasConnected) return null;
    return this.connection && attempt === this.attempt ? this.restart() : this.offer();
  }

  async onAnswer({attempt, sdp}) {
    if (attempt !== this.attempt || this.connection.signalingState !== 'have-local-offer') return;
    await this.connection.setRemoteDescription({type: 'answer', sdp});
    await this.takeEarly();
  }

  /* A candidate can be of use only once the other end is described. */
  onCandidate({attempt, candidate}) {
    if (attempt !== this.attempt || !this.connection) return null;
    if (!this.connection.remoteDescription) return void this.early.push(candidate);
    return this.connection.addIceCandidate(candidate);
  }

  async takeEarly() {
    for (const candidate of this.early.splice(0)) await this.connection.addIceCandidate(candidate);
  }

  /* -- when it breaks */

  get isConnected() {
    return Boolean(this.connection) && this.connection.connectionState === 'connected';
  }

  onState() {
    const state = this.connection.connectionState;
    if (state === 'connected') this.onConnected();
    if (state === 'disconnected') this.mendIn(GRACE);
    if (state === 'failed') this.mendIn(0);
    this.changed(this);
  }

  onConnected() {
    clearTimeout(this.timer);
    this.wasConnected = true;
    this.tries = 0;
  }

  mendIn(delay) {
    clearTimeout(this.timer);
    this.lostAt = performance.now();
    this.timer = setTimeout(() => this.isConnected || this.mend(), delay);
  }

  mend() {
    if (this.offers) this.inTurn(() => this.restart());
    else this.want();
  }

  /* The addresses are looked for anew, the connection stays. */
  async restart() {
    if (this.isConnected || this.connection.signalingState !== 'stable') return;
    this.watch();
    await this.describe({iceRestart: true});
  }

  /* A try that stands still is followed by a fresh one on both ends. */
  watch() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.isConnected || this.closed || this.start(), STUCK * Math.min(MOST_PATIENCE, 2 ** Math.max(0, this.tries - 1)));
  }
}
