import { UsageError } from './errors.js';
import type { Fetch } from './fetch.js';

export const VERSION = '0.1.0';
export const DIFY_CLOUD = 'https://api.dify.ai';

/** How often a run is polled. All values but `factor` are in seconds. */
export interface PollingPlan {
  /** Before the first request: 1. */
  first?: number | undefined;
  /** How many times longer each pause is than the one before: 1.5. */
  factor?: number | undefined;
  /** The longest pause: 5. */
  longest?: number | undefined;
  /** In total: 300. */
  timeout?: number | undefined;
}

/** When a failed call is retried: after connection errors, 429 and 5xx; never after another 4xx. */
export interface RetryPolicy {
  /** The maximum number of retries: 3. */
  maxRetries?: number | undefined;
  /** Seconds before the first retry: 1. */
  delay?: number | undefined;
  /** How many times longer each pause is than the one before: 2. */
  factor?: number | undefined;
  /** A random part of up to this fraction of a pause is added to it: 0.25. */
  jitter?: number | undefined;
  /** The longest `Retry-After` that is waited for, in seconds: 60. After a longer one the call fails at once. */
  maxRetryAfter?: number | undefined;
}

export interface ClientOptions {
  /** The app's key; by default `API_KEY` of the environment. */
  apiKey?: string | undefined;
  /**
   * The server's URL, with or without `/v1`, `/api` or `/api/v1`; by default `API_BASE_URL`, or Dify Cloud. `/api` can
   * also be a proxy's prefix.
   */
  baseUrl?: string | undefined;
  /** The user of calls that do not name one. */
  user?: string | undefined;
  /** Seconds that a call may take, for a stream until its first byte: 60. 0: no limit. */
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
  /** Logs each request (`debug`) and retry (`info`), such as `console`: never a body, never the key. */
  logger?: Logger | undefined;
  /** An undici dispatcher (`Agent`, `ProxyAgent` ...) for TLS and proxies; passed to `fetch`. */
  dispatcher?: object | undefined;
  /** Waits so many seconds; rejects with the signal's reason once it is aborted. For tests. */
  sleep?: ((seconds: number, signal?: AbortSignal) => Promise<void>) | undefined;
  /** The time in seconds, from any start. For tests. */
  clock?: (() => number) | undefined;
}

/** A logger, such as `console`. */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
}

/** The options that can be changed for one call or many; see `withOptions`. */
export type ChangedOptions = Pick<
  ClientOptions,
  'user' | 'timeout' | 'streamSilence' | 'retry' | 'maxRetries' | 'headers' | 'polling' | 'logger'
>;

export interface CallOptions {
  /** Aborts the call; its promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Seconds that this call may take. */
  timeout?: number | undefined;
}

const API_PATHS = /(?:\/api\/v1|\/api|\/v1)$/;
const AMBIGUOUS_PATH = /(?<!\/api)\/api(?:\/v1)?$/;

/**
 * The server's root, without the path of an API, and the alternative root; null if there is none. There are two where
 * the URL ends in `/api`: that is part of an API's path, or a prefix that a proxy adds.
 */
export function resolveRoots(baseUrl: string): { root: string; alternative: string | null } {
  let url: URL;
  try {
    url = new URL(baseUrl.trim());
  } catch {
    throw new UsageError(`baseUrl must be an http or https URL, not ${JSON.stringify(baseUrl)}`);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new UsageError(`baseUrl must be an http or https URL, not ${JSON.stringify(baseUrl)}`);
  if (url.search || url.hash) throw new UsageError('baseUrl must have no query and no fragment');
  if (url.username || url.password) throw new UsageError('baseUrl must not contain a user name or password');
  const path = url.pathname.replace(/\/+$/, '');
  const withoutPath = (end: RegExp) => url.origin + path.replace(end, '').replace(/\/+$/, '');
  return { root: withoutPath(API_PATHS), alternative: AMBIGUOUS_PATH.test(path) ? withoutPath(/\/v1$/) : null };
}

/**
 * Merges headers; a later layer replaces headers of the same name, whatever the case. UsageError if a name or value is
 * not valid.
 */
export function mergeHeaders(
  ...layers: readonly (Readonly<Record<string, string>> | undefined)[]
): Record<string, string> {
  const merged = new Map<string, [string, string]>();
  for (const [name, value] of layers.flatMap((layer) => Object.entries(layer ?? {}))) {
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) {
      throw new UsageError(`${JSON.stringify(name)} is not a valid header name.`);
    }
    if (typeof value !== 'string' || !/^[\t -~]*$/.test(value)) {
      throw new UsageError(`The header ${name} has characters that are not allowed: ${JSON.stringify(value)}`);
    }
    merged.set(name.toLowerCase(), [name, value]);
  }
  return Object.fromEntries(merged.values());
}

/** Waits. Rejects with the signal's reason when it is aborted. */
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

/** The number, or `fallback` if it is undefined. UsageError if it is less than `minimum`. */
export function checkNumber(name: string, value: number | undefined, fallback: number, minimum = 0): number {
  if (value === undefined) return fallback;
  if (typeof value !== 'number' || !(value >= minimum)) {
    throw new UsageError(`${name} must be a number of at least ${minimum}, not ${String(value)}`);
  }
  return value;
}

export type Plan = { readonly [N in keyof PollingPlan]-?: number };

/** The first of the plans' values for each field, or the default. */
export function completePlan(...plans: readonly (PollingPlan | undefined)[]): Plan {
  const first = (name: keyof PollingPlan) => plans.map((plan) => plan?.[name]).find((value) => value !== undefined);
  return {
    first: checkNumber('first', first('first'), 1),
    factor: checkNumber('factor', first('factor'), 1.5, 1),
    longest: checkNumber('longest', first('longest'), 5),
    timeout: checkNumber('timeout', first('timeout'), 300),
  };
}
