/** The connections of one call: each page with every other. */
import {state} from '../core/state.js';
import {LINES, Peer} from './peer.js';
import {Signals} from './signals.js';

/** The STUN server beside this page's own, as an address that a browser takes; none where the server has none. */
export function iceServers() {
  const {stun} = state.server;
  return stun ? [{urls: `stun:${location.hostname}:${stun}`}] : [];
}

/** All connections of this page in a call. `changed(peer)` is called when one has news, `lost(error)` when the server puts this page out. */
export class Mesh {
  constructor(callId, device, {changed, lost}) {
    Object.assign(this, {callId, device, changed, peers: new Map(), gone: new Set()});
    this.tracks = Object.fromEntries(LINES.map(name => [name, null]));
    this.signals = new Signals(callId, device, signal => this.take(signal), lost);
  }

  open(participants) {
    this.signals.open();
    this.meet(participants);
  }

  close() {
    this.signals.close();
    for (const peer of this.peers.values()) peer.close();
    this.peers.clear();
  }

  /** Connects with those who are in the call, and with nobody else. */
  meet(participants) {
    const others = participants.filter(one => one.state === 'joined' && one.user_id !== state.me.id);
    const devices = new Map(others.map(one => [one.user_id, one.device]));
    for (const [userId, peer] of this.peers) if (devices.get(userId) !== peer.device) this.part(userId);
    for (const [userId, device] of devices) if (!this.peers.has(userId)) this.connect(userId, device).start();
  }

  connect(userId, device) {
    const peer = new Peer({
      userId, device, offers: state.me.id < userId, servers: iceServers(), tracks: this.tracks,
      send: item => this.signals.send(userId, item), changed: one => this.onChange(one),
    });
    this.peers.set(userId, peer);
    peer.watch();
    return peer;
  }

  part(userId) {
    const peer = this.peers.get(userId);
    this.gone.add(peer.device);
    this.signals.forget(userId);
    this.peers.delete(userId);
    peer.close();
    this.changed(peer);
  }

  /* Signals may come before the news of who has joined, and after the news of who has left. */
  take({from, device, data}) {
    const known = this.peers.get(from);
    if (!known && this.gone.has(device)) return;
    if (known && known.device !== device) {
      if (this.gone.has(device)) return;
      this.part(from);
    }
    const peer = this.peers.get(from) || this.connect(from, device);
    for (const item of data) peer.take(item);
  }

  /* A connection that broke off may have taken the poll with it. */
  onChange(peer) {
    if (peer.connection && peer.connection.connectionState === 'disconnected') this.signals.again();
    this.changed(peer);
  }

  /** Shows something, or nothing, to all. */
  async put(name, track) {
    this.tracks[name] = track;
    await Promise.all([...this.peers.values()].map(peer => peer.put(name, track)));
  }
}
