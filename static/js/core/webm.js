/** Recorders write WebM as it comes and leave the length out; here it is put in, so that players can seek. */

const INFO = [0x15, 0x49, 0xa9, 0x66];
const DURATION = [0x44, 0x89];
const HEAD = 1024;

/** The same WebM with its length; as it was where its head looks otherwise than recorders write it. */
export function withLength(bytes, seconds) {
  const at = findInfo(bytes);
  const size = at < 0 ? 0xff : bytes[at + 4];
  const length = size & 0x7f;
  const content = bytes.subarray(at + 5, at + 5 + length);
  /* RFC 8794 section 4: one byte with its first bit set holds sizes up to 126. */
  if (!(size & 0x80) || length > 126 - 11 || has(content, DURATION)) return bytes;
  const duration = new DataView(new ArrayBuffer(8));
  duration.setFloat64(0, seconds * 1000);
  const entry = [...DURATION, 0x88, ...new Uint8Array(duration.buffer)];
  const parts = [bytes.subarray(0, at + 4), [0x80 | length + entry.length], content, entry, bytes.subarray(at + 5 + length)];
  return joined(parts.map(part => Uint8Array.from(part)));
}

const findInfo = bytes => indexOf(bytes.subarray(0, HEAD), INFO);
const has = (bytes, wanted) => indexOf(bytes, wanted) >= 0;

function indexOf(bytes, wanted) {
  return bytes.findIndex((unused, start) => wanted.every((byte, index) => bytes[start + index] === byte));
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
