/** Requests to the server, and the one error they raise. */
import {tell} from './state.js';

/** What the server refused, or status 0 when it could not be asked. */
export class ApiError extends Error {
  constructor(status, answer = {}, retryAfter = 0) {
    super(answer.error || '');
    this.status = status;
    this.code = answer.code || '';
    this.field = answer.field || '';
    this.retryAfter = retryAfter;
  }

  /** A refusal will not change by asking again; all else may. */
  get refused() {
    return this.status >= 400 && this.status < 500 && ![401, 408, 429].includes(this.status);
  }
}

/** Catches what the server could not be asked for now, and is asked for again with the next occasion. */
export function ignoreLink(error) {
  if (!(error instanceof ApiError)) throw error;
}

const ASKING_WHO = ['/login', '/signup', '/password', '/snapshot', '/poll'];

/* What answers at once and what others wait behind: a connection that died silently would hold it up for many minutes. */
const PROMPT = [
  /^GET \/welcome$/, /^(GET|POST) \/channels\/\d+\/messages$/, /^PATCH \/(me|calls\/\d+\/me)$/, /^(PUT|DELETE) \/messages\/\d+\/reactions\//,
];
const DEADLINE = 30000;

/** Sends one request, which an AbortController `ending` may end; the answer's JSON, or null when there is none. Raises ApiError. */
export async function request(method, path, body, {ending = new AbortController(), ...options} = {}) {
  const init = {method, credentials: 'same-origin', cache: 'no-store', signal: ending.signal, ...options};
  if (body !== undefined) Object.assign(init, {body: JSON.stringify(body), headers: {'Content-Type': 'application/json'}});
  const response = await reach(path, init, ending);
  const answer = await readAnswer(response);
  if (response.ok) return answer;
  throw refusal(response, answer, path);
}

/* Until the answer begins: one that has begun is alive, however long it is. */
async function reach(path, init, ending) {
  const timer = isPrompt(init.method, path) ? setTimeout(() => ending.abort(), DEADLINE) : 0;
  try {
    return await fetch(path, init);
  } catch (error) {
    throw new ApiError(0);
  } finally {
    clearTimeout(timer);
  }
}

function isPrompt(method, path) {
  const asked = `${method} ${path.split('?')[0]}`;
  return PROMPT.some(pattern => pattern.test(asked));
}

async function readAnswer(response) {
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    if (response.ok) throw new ApiError(0);
    return {};
  }
}

function refusal(response, answer, path) {
  const endpoint = path.split('?')[0];
  if (response.status === 401 && !ASKING_WHO.includes(endpoint)) tell('signed-out');
  return new ApiError(response.status, answer, Number(response.headers.get('Retry-After')) || 0);
}

export const get = (path, options) => request('GET', path, undefined, options);
export const post = (path, body = {}, options) => request('POST', path, body, options);
export const put = (path, body) => request('PUT', path, body);
export const patch = (path, body) => request('PATCH', path, body);
export const remove = path => request('DELETE', path);

/** Waiting time in ms before try number `attempt`: full jitter under a doubling ceiling, so that a crowd does not return at once. */
export function backOff(attempt, ceiling = 30000) {
  return 500 + Math.random() * Math.min(ceiling, 1000 * 2 ** attempt);
}

/** Uploads raw bytes with progress, which fetch does not report. Returns {done, cancel}. */
export function upload(path, file, onProgress) {
  const transfer = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    transfer.open('POST', path);
    transfer.setRequestHeader('Content-Type', 'application/octet-stream');
    transfer.responseType = 'json';
    transfer.upload.onprogress = event => onProgress(event.loaded);
    transfer.onload = () => settleUpload(transfer, resolve, reject);
    transfer.onerror = transfer.ontimeout = () => reject(new ApiError(0));
    transfer.onabort = () => reject(new ApiError(0, {code: 'cancelled'}));
    transfer.send(file);
  });
  return {done, cancel: () => transfer.abort()};
}

function settleUpload(transfer, resolve, reject) {
  if (transfer.status === 201 && transfer.response) return resolve(transfer.response.file);
  if (transfer.status === 401) tell('signed-out');
  reject(new ApiError(transfer.status, transfer.response || {}, Number(transfer.getResponseHeader('Retry-After')) || 0));
}
