/**
 * Calls of the server, with the key that the reader typed.
 *
 * The key is kept for as long as the tab is open (`sessionStorage`), and sent to this server alone.
 * Addresses are relative to the page, so that it also works below a path of a proxy.
 */

import { readEvents } from "./events.js";

const KEPT = "headway.key";
const SOONEST = 1;
const LATEST = 30;
/** Refusals that may be different the next time: too slow, too many. */
const PASSING = new Set([408, 425, 429]);

let typed = "";
try {
  typed = sessionStorage.getItem(KEPT) ?? "";
} catch {
  // Storage may be blocked; the key then lasts as long as the page.
}

/** The key; "" where there is none. */
export function currentKey() {
  return typed;
}

/** @param {string} key "" forgets it. */
export function useKey(key) {
  typed = key.trim();
  try {
    if (typed) sessionStorage.setItem(KEPT, typed);
    else sessionStorage.removeItem(KEPT);
  } catch {
    // As above.
  }
}

let askForKey = async () => false;

/**
 * Says who asks the reader for a key when the server wants one.
 *
 * @param {() => Promise<boolean>} ask whether there is a new one
 */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** Why a call failed, in the server's words. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, field?: string | null, code?: string | null, requestId?: string | null,
   *   retryAfter?: number | null}} [about] `status` is 0 where no answer came, `field` what was wrong
   *   in the body, `retryAfter` in seconds
   */
  constructor(message, about = {}) {
    super(message);
    this.name = "ApiError";
    this.status = about.status ?? 0;
    this.field = about.field ?? null;
    this.code = about.code ?? null;
    this.requestId = about.requestId ?? null;
    this.retryAfter = about.retryAfter ?? null;
  }
}

/**
 * The error in a body of this server's, or what its status says.
 *
 * @param {any} body
 * @param {{status: number, requestId?: string | null, retryAfter?: number | null}} about
 */
export function errorFrom(body, about) {
  const error = body?.error;
  const known = typeof error?.message === "string";
  const message = known ? error.message : `the server answered with the status ${about.status}`;
  return new ApiError(message, { ...about, field: error?.param, code: error?.code });
}

/**
 * One call. Asks for a key where one is needed, and then tries again.
 *
 * @param {string} path relative to the page, such as "v1/models"
 * @param {{method?: string, body?: unknown, signal?: AbortSignal, ask?: boolean}} [options] `ask`:
 *   whether the reader may be asked for a key
 * @returns {Promise<Response>} one that went well
 * @throws {ApiError} for any other; for a signal, what `fetch` throws
 */
export async function call(path, { method = "GET", body, signal, ask = true } = {}) {
  for (let asked = !ask; ; asked = true) {
    const response = await send(path, { method, body, signal });
    if (response.ok) return response;
    if (response.status === 401 && !asked && (await askForKey())) continue;
    const again = Number(response.headers.get("retry-after"));
    throw errorFrom(await response.json().catch(() => null), {
      status: response.status,
      requestId: response.headers.get("x-request-id"),
      retryAfter: again > 0 ? again : null,
    });
  }
}

async function send(path, { method, body, signal }) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  if (typed) {
    // Headers hold bytes; a key of other letters than ASCII's is sent as UTF-8.
    const bytes = new TextEncoder().encode(`Bearer ${typed}`);
    headers.authorization = String.fromCharCode(...bytes);
  }
  const text = body === undefined ? undefined : JSON.stringify(body);
  try {
    return await fetch(address(path), { method, headers, body: text, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("the server cannot be reached");
  }
}

/** @param {string} path */
function address(path) {
  return new URL(path.replace(/^\//, ""), document.baseURI);
}

/**
 * Follow a stream of events until `signal` says otherwise. Where it breaks off it is taken up again,
 * later each time. Besides the server's events there are two: "open" when the stream begins or
 * goes on, and "lost", with the reason, when it breaks off.
 *
 * @param {string} path
 * @param {(event: {event: string, data: string}) => void} onEvent
 * @param {AbortSignal} signal
 * @throws {ApiError} for a refusal that would be the same the next time
 */
export async function fetchEvents(path, onEvent, signal) {
  let pause = SOONEST;
  while (!signal.aborted) {
    let reason = "the stream ended";
    let wait = pause;
    try {
      const response = await call(path, { signal });
      onEvent({ event: "open", data: "" });
      for await (const event of readEvents(response.body)) {
        pause = wait = SOONEST;
        onEvent(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500 && !PASSING.has(error.status)) throw error;
      reason = error.message;
      wait = Math.max(pause, error.retryAfter ?? 0);
    }
    if (signal.aborted) return;
    onEvent({ event: "lost", data: reason });
    await pausing(wait, signal);
    pause = Math.min(2 * pause, LATEST);
  }
}

/** So many seconds, or till the signal. */
function pausing(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
