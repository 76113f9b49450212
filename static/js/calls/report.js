/** What a test or an administrator can read of a call: states and kinds of addresses, nothing that was said. */
import {copyText} from '../core/dom.js';
import {state, userName} from '../core/state.js';
import {active} from './active.js';
import {own} from './media.js';

const MAIN_STATS = ['inbound-rtp', 'outbound-rtp'];

/** Puts `window.__calls` where a test finds it. */
export function offerReport() {
  window.__calls = {active, own, connections: () => peers().map(peer => peer.connection), peers: () => Promise.all(peers().map(facts)), report};
}

const peers = () => (active.mesh ? [...active.mesh.peers.values()] : []);

/* What is known of one connection: its states, how it goes, and what has arrived and left. */
async function facts(peer) {
  const {connection} = peer;
  const stats = connection ? [...(await connection.getStats()).values()] : [];
  return {
    user_id: peer.userId, device: peer.device, offers: peer.offers, attempts: peer.attempts, troubles: peer.troubles, quality: peer.quality || '',
    connection: connection ? connection.connectionState : 'none', ice: connection ? connection.iceConnectionState : 'none',
    signaling: connection ? connection.signalingState : 'none', ...routeOf(stats), media: mediaOf(stats, connection),
  };
}

function routeOf(stats) {
  const byId = new Map(stats.map(one => [one.id, one]));
  const transport = stats.find(one => one.type === 'transport') || {};
  const pair = byId.get(transport.selectedCandidatePairId) || stats.find(one => one.type === 'candidate-pair' && one.nominated && one.state === 'succeeded') || {};
  const kindOf = one => (one ? {type: one.candidateType, address: one.address || '', protocol: one.protocol} : null);
  const ends = kind => stats.filter(one => one.type === kind).map(one => one.candidateType);
  return {
    local: kindOf(byId.get(pair.localCandidateId)), remote: kindOf(byId.get(pair.remoteCandidateId)),
    candidates: {local: ends('local-candidate'), remote: ends('remote-candidate')},
  };
}

/* The lines are named by their place: 0 microphone, 1 camera, 2 screen, 3 sound of the screen. */
function mediaOf(stats, connection) {
  const lines = connection ? connection.getTransceivers().map(one => one.mid) : [];
  return stats.filter(one => MAIN_STATS.includes(one.type)).map(one => ({
    line: ['microphone', 'camera', 'screen', 'sound'][lines.indexOf(one.mid)], direction: one.type === 'inbound-rtp' ? 'in' : 'out',
    frames: one.framesDecoded ?? one.framesEncoded ?? null, energy: one.totalAudioEnergy ?? null,
    packets: one.packetsReceived ?? one.packetsSent ?? 0, lost: one.packetsLost ?? 0,
  }));
}

/** The whole of it as plain text. */
export async function report() {
  const {call, mesh} = active;
  const head = [
    `MiniMost ${state.server.version}, ${new Date().toISOString()}`, navigator.userAgent, location.origin,
    `STUN port: ${state.server.stun || 'none'}`, `secure: ${window.isSecureContext}, online: ${navigator.onLine}`,
    call ? `call ${call.id}, requests for signals: ${mesh.signals.requests}` : 'no call', ...[...active.troubles].map(([name, text]) => `trouble ${name}: ${text}`),
  ];
  const parts = (await Promise.all(peers().map(facts))).map(one => `${userName(one.user_id)}: ${JSON.stringify(one, null, 1)}`);
  return [...head, ...parts].join('\n');
}

export const copyReport = async () => copyText(await report());
