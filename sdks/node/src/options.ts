import { UsageError } from './errors.js';
import type { Fetch } from './fetch.js';

export const VERSION = '0.1.0';
export const DIFY_CLOUD = 'https://api.dify.ai';

/** When a run is looked at. All in seconds but `factor`. */
export interface PollingPlan {
  /** Before the first look: 1. */
  first?: number | undefined;
  /** How many times longer each pause is than the one before: 1.5. */
  factor?: number | undefined;
  /** The longest pause: 5. */
  longest?: number | undefined;
  /** In all: 300. */
  timeout?: number | undefined;
}

/** When a call that failed is sent again: after connection errors, 429 and 5xx; never after another 4xx. */
export interface RetryPolicy {
  /** How often at most: 3. */
  maxRetries?: number | undefined;
  /** Seconds before the first repetition: 1. */
  delay?: number | undefined;
  /** How many times longer each pause is than the one before: 2. */
  factor?: number | undefined;
  /** Up to this part of a pause is added to it, by chance: 0.25. */
  jitter?: number | undefined;
  /** The longest `Retry-After` that is waited for, in seconds: 60. A longer one is an error at once. */
  maxRetryAfter?: number | undefined;
}

export interface ClientOptions {
  /** The app's key; else `API_KEY` of the environment. */
  apiKey?: string | undefined;
  /**
   * The server, with or without `/v1`, `/api` or `/api/v1`; else `API_BASE_URL`, else Dify Cloud. `/api` may also be what
   * a proxy puts before them.
   */
  baseUrl?: string | undefined;
  /** Whom calls are made for where they do not say. */
  user?: string | undefined;
  /** Seconds that a call may take, until the first byte of a stream: 60. 0: for ever. */
  timeout?: number | undefined;
  /** Seconds without a byte after which a stream counts as cut: 60. Servers ping every 10. 0: never. */
  streamSilence?: number | undefined;
  retry?: RetryPolicy | undefined;
  /** Short for `retry: { maxRetries }`. */
  maxRetries?: number | undefined;
  /** Sent with every call. */
  headers?: Readonly<Record<string, string>> | undefined;
  polling?: PollingPlan | undefined;
  /** Called instead of the global `fetch`. */
  fetch?: Fetch | undefined;
  /** Is told of each request (`debug`) and repetition (`info`), such as `console`: never a body, never the key. */
  logger?: Logger | undefined;
  /** An undici dispatcher (`Agent`, `ProxyAgent` ...) for TLS and proxies; given on to `fetch`. */
  dispatcher?: object | undefined;
  /** Waits so many seconds; rejects with the signal's reason once it is aborted. For tests. */
  sleep?: ((seconds: number, signal?: AbortSignal) => Promise<void>) | undefined;
  /** The time in seconds, from any beginning. For tests. */
  clock?: (() => number) | undefined;
}

/** What can be logged to. */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
}

/** What can be changed for one call or for many; see `withOptions`. */
export type ChangedOptions = Pick<
  ClientOptions,
  'user' | 'timeout' | 'streamSilence' | 'retry' | 'maxRetries' | 'headers' | 'polling' | 'logger'
>;

export interface CallOptions {
  /** Ends the call; what was awaited rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Seconds that this call may take. */
  timeout?: number | undefined;
}

const KNOWN_PATHS = /(?:\/api\/v1|\/api|\/v1)$/;
const DOUBTFUL = /(?<!\/api)\/api(?:\/v1)?$/;

/**
 * Where the server is, without the path of any of its APIs; and the other address that it may have, null where there is
 * no doubt: `/api` at the end is of our own paths, or it is what a proxy has put before them.
 */
export function rootsOf(baseUrl: string): { root: string; other: string | null } {
  let url: URL;
  try {
    url = new URL(baseUrl.trim());
  } catch {
    throw new UsageError(`baseUrl must be an http or https URL, not ${JSON.stringify(baseUrl)}`);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new UsageError(`baseUrl must be an http or https URL, not ${JSON.stringify(baseUrl)}`);
  if (url.search || url.hash) throw new UsageError('baseUrl must have no query and no fragment');
  if (url.username || url.password) throw new UsageError('baseUrl must hold no user name or password');
  const path = url.pathname.replace(/\/+$/, '');
  const without = (end: RegExp) => url.origin + path.replace(end, '').replace(/\/+$/, '');
  return { root: without(KNOWN_PATHS), other: DOUBTFUL.test(path) ? without(/\/v1$/) : null };
}

/**
 * Headers, those of a later layer in place of those of the same name, however that is written. UsageError for what no
 * header can hold.
 */
export function headersOf(
  ...layers: readonly (Readonly<Record<string, string>> | undefined)[]
): Record<string, string> {
  const merged = new Map<string, [string, string]>();
  for (const [name, value] of layers.flatMap((layer) => Object.entries(layer ?? {}))) {
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) {
      throw new UsageError(`${JSON.stringify(name)} is not a valid name of a header.`);
    }
    if (typeof value !== 'string' || !/^[\t -~]*$/.test(value)) {
      throw new UsageError(`The header ${name} has characters that no header has: ${JSON.stringify(value)}`);
    }
    merged.set(name.toLowerCase(), [name, value]);
  }
  return Object.fromEntries(merged.values());
}

/** Waits. Rejects with the signal's reason once it is aborted. */
export function sleep(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, seconds * 1000);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', stop, { once: true });
  });
}

/** A number of at least `least`; `usual` where none is given. */
export function numberOf(name: string, value: number | undefined, usual: number, least = 0): number {
  if (value === undefined) return usual;
  if (typeof value !== 'number' || !(value >= least)) {
    throw new UsageError(`${name} must be a number of at least ${least}, not ${String(value)}`);
  }
  return value;
}

export type Plan = { readonly [N in keyof PollingPlan]-?: number };

/** The plan with its usual numbers where none is given. */
export function planOf(...plans: readonly (PollingPlan | undefined)[]): Plan {
  const given = (name: keyof PollingPlan) => plans.map((plan) => plan?.[name]).find((value) => value !== undefined);
  return {
    first: numberOf('first', given('first'), 1),
    factor: numberOf('factor', given('factor'), 1.5, 1),
    longest: numberOf('longest', given('longest'), 5),
    timeout: numberOf('timeout', given('timeout'), 300),
  };
}
