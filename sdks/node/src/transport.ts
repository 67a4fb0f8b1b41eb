import {
  ConnectionError,
  HeadraceError,
  RateLimitError,
  ServerError,
  TimeoutError,
  UsageError,
  parseError,
  isObject,
  getRequestId,
  parseRetryAfter,
  formatSeconds,
} from './errors.js';
import { formatQuery, serialize } from './call.js';
import { HttpRequest, failureKindOf, mayHaveArrived, toStream } from './http-request.js';
import type { HttpResponse, ResponseStream } from './http-request.js';
import { environment } from './platform.js';
import { attachResponse } from './responses.js';
import { SharedTask } from './shared-task.js';
import { DIFY_CLOUD, VERSION, mergeHeaders, checkNumber, resolveRoots, sleep } from './options.js';
import type { Call } from './call.js';
import type { Fetch, FetchAnswer, FetchInit } from './fetch.js';
import type { ChangedOptions, ClientOptions, Logger } from './options.js';

/** The header of every response of Headrace's asynchronous API. */
export const API_VERSION_HEADER = 'headrace-api-version';

/** The server's root URL; clients made by `withOptions` share it. */
interface Address {
  root: string;
  /** The other possible root, until it is known which one the server has. */
  alternative: string | null;
  detection: SharedTask<void> | null;
}

/** Sends calls: adds the key, applies timeouts and retries, throws errors. */
export class Transport {
  readonly clock: () => number;
  readonly sleep: (seconds: number, signal?: AbortSignal) => Promise<void>;
  readonly maxRetries: number;
  readonly #options: ClientOptions;
  readonly #address: Address;
  readonly #logger: Logger | undefined;
  readonly #key: string;
  readonly #fetch: Fetch;
  readonly #dispatcher: object | undefined;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #timeout: number;
  readonly #silence: number;
  readonly #retry: {
    readonly delay: number;
    readonly factor: number;
    readonly jitter: number;
    readonly maxRetryAfter: number;
  };

  /** `address`: of another transport to the same server. */
  constructor(options: ClientOptions, address?: Address) {
    this.#options = options;
    const key = (options.apiKey ?? environment('API_KEY') ?? '').trim();
    if (!key) throw new UsageError('An API key is required: pass apiKey, or set API_KEY in the environment.');
    if (!/^[\x21-\x7e]+$/.test(key))
      throw new UsageError('The API key has characters that are not allowed (whitespace or non-ASCII characters).');
    this.#key = key;
    this.#address = address ?? {
      ...resolveRoots(options.baseUrl || environment('API_BASE_URL') || DIFY_CLOUD),
      detection: null,
    };
    this.#logger = options.logger;
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init));
    this.#dispatcher = options.dispatcher;
    this.#headers = mergeHeaders(options.headers);
    this.#timeout = checkNumber('timeout', options.timeout, 60);
    this.#silence = checkNumber('streamSilence', options.streamSilence, 60);
    const retry = options.retry ?? {};
    this.maxRetries = checkNumber('maxRetries', options.maxRetries ?? retry.maxRetries, 3);
    this.#retry = {
      delay: checkNumber('delay', retry.delay, 1),
      factor: checkNumber('factor', retry.factor, 2, 1),
      jitter: checkNumber('jitter', retry.jitter, 0.25),
      maxRetryAfter: checkNumber('maxRetryAfter', retry.maxRetryAfter, 60),
    };
    this.sleep = options.sleep ?? sleep;
    this.clock = options.clock ?? (() => performance.now() / 1000);
  }

  /** The server's root URL. */
  get root(): string {
    return this.#address.root;
  }

  /** A transport with other options to the same server; `headers` are added to the existing ones. */
  withOptions(changed: ChangedOptions): Transport {
    const headers = mergeHeaders(this.#options.headers, changed.headers);
    const retry = { ...this.#options.retry, ...changed.retry };
    const maxRetries = changed.maxRetries ?? changed.retry?.maxRetries ?? this.maxRetries;
    return new Transport({ ...this.#options, ...withoutUndefined(changed), headers, retry, maxRetries }, this.#address);
  }

  /** Sends a call and reads the response. */
  send(call: Call): Promise<HttpResponse> {
    let repeated = call;
    return this.#withRetries(call, async (timeout) => {
      try {
        return await this.#attempt(repeated, timeout);
      } catch (error) {
        // an attempt whose response was lost may have deleted it
        if (call.method === 'DELETE' && mayHaveArrived(error))
          repeated = { ...call, accept: (status) => status === 404 };
        throw error;
      }
    });
  }

  async #attempt(call: Call, timeout: number, root = this.#address.root): Promise<HttpResponse> {
    const startedAt = this.clock();
    const request = this.#createRequest(call, timeout, root);
    try {
      const head = await request.response();
      this.#log(call, head, startedAt);
      const response = await request.readBody(head);
      this.#check(call, response);
      return response;
    } finally {
      request.end();
    }
  }

  /** Sends a call whose response is JSON. */
  async json<T>(call: Call): Promise<T> {
    return parseObject<T>(await this.send(call));
  }

  /** Sends a call whose response is a stream. `timeout` is until it starts. */
  open(call: Call): Promise<ResponseStream> {
    return this.#withRetries(call, async (timeout) => {
      const startedAt = this.clock();
      const request = this.#createRequest(call, timeout, this.#address.root);
      try {
        const head = await request.response();
        this.#log(call, head, startedAt);
        if (head.status >= 300 || isDocument(head)) {
          const response = await request.readBody(head);
          this.#check(call, response);
          if (response.status < 300 && !call.accept?.(response.status, response.headers))
            throw notAStreamError(response);
          request.end();
          return toStream(response);
        }
        return request.stream(head, this.#silence);
      } catch (error) {
        request.end();
        throw error;
      }
    });
  }

  /**
   * Detects, once and before any other request, which of the two possible roots the server has: the same path can be
   * one API's under the one, and another's under the other. If the result is not certain, `root` is used, and the next
   * call tries again.
   */
  async #detectRoot(signal: AbortSignal): Promise<void> {
    const accept = (status: number) => !isInconclusive(status);
    const call: Call = { method: 'GET', path: '/v1/parameters', repeat: 'always', accept, signal };
    for (const root of [this.#address.alternative ?? this.#address.root, this.#address.root]) {
      const response = await this.#retryUntilDone(call, (timeout) => this.#attempt(call, timeout, root));
      // the asynchronous API does not have this path, so the `/api` of the URL is its own
      const isAsyncApi = response.headers.has(API_VERSION_HEADER);
      if (!isAsyncApi && !isParameters(response)) continue;
      if (!isAsyncApi) this.#address.root = root;
      this.#address.alternative = null;
      return;
    }
  }

  /** The seconds before the retry `attempt` (from 0). */
  pause(attempt: number): number {
    const { delay, factor, jitter } = this.#retry;
    return delay * factor ** attempt * (1 + jitter * Math.random());
  }

  #createRequest(call: Call, timeout: number, root: string): HttpRequest {
    const url = `${root}${call.path}${formatQuery(call.query)}`;
    const defaults = {
      Accept: 'application/json, text/event-stream; ids=true, */*',
      'User-Agent': `headrace-client-node/${VERSION}`,
    };
    const headers = mergeHeaders(defaults, this.#headers, call.headers, { Authorization: `Bearer ${this.#key}` });
    const init: FetchInit = { method: call.method, headers, redirect: 'manual' };
    if (call.json !== undefined) {
      init.headers = mergeHeaders(headers, { 'Content-Type': 'application/json' });
      init.body = serialize(call.json);
    } else if (call.form) {
      init.headers = mergeHeaders(headers, { 'Content-Type': call.form.type });
      init.body = call.form.body;
    }
    if (this.#dispatcher) Object.assign(init, { dispatcher: this.#dispatcher });
    return new HttpRequest(this.#fetch, url, init, call.signal, timeout);
  }

  #log(call: Call, { status, headers }: FetchAnswer, startedAt: number): void {
    const elapsed = (this.clock() - startedAt).toFixed(3);
    this.#logger?.debug(
      `${call.method} ${call.path} returned ${status} in ${elapsed} s, request ${getRequestId(headers)}`,
    );
  }

  #check(call: Call, response: HttpResponse): void {
    const { status, headers } = response;
    if (status < 300 || call.accept?.(status, headers)) return;
    const error = parseError({ ...response, text: response.text.replaceAll(this.#key, '***') });
    const retryAfter = parseRetryAfter(headers);
    if (retryAfter !== null) retryAfters.set(error, retryAfter);
    throw error;
  }

  /** `attempt` gets its timeout in seconds. A timeout of the call is for all attempts and pauses together. */
  async #withRetries<T>(call: Call, attempt: (timeout: number) => Promise<T>): Promise<T> {
    const limit = checkNumber('timeout', call.timeout, 0);
    const deadline = limit ? this.clock() + limit : Infinity;
    call.signal?.throwIfAborted();
    if (this.#address.alternative !== null) {
      this.#address.detection ??= new SharedTask(
        (signal) => this.#detectRoot(signal),
        () => (this.#address.detection = null),
      );
      await this.#address.detection.wait(limit, call.signal);
    }
    return this.#retryUntilDone(call, attempt, limit, deadline);
  }

  async #retryUntilDone<T>(
    call: Call,
    attempt: (timeout: number) => Promise<T>,
    limit = 0,
    deadline = Infinity,
  ): Promise<T> {
    for (let retries = 0; ; retries++) {
      call.signal?.throwIfAborted();
      try {
        return await attempt(limit ? Math.max(0.001, deadline - this.clock()) : this.#timeout);
      } catch (error) {
        const pause = retries < this.maxRetries ? this.#pauseAfter(error, call, retries) : null;
        if (pause === null) throw error;
        if (this.clock() + pause >= deadline) throw toTimeoutError(error, limit);
        const reason = error instanceof Error ? error.message : String(error);
        this.#logger?.info(`${call.method} ${call.path}: ${reason}; retrying in ${pause.toFixed(1)} s`);
        await this.sleep(pause, call.signal);
      }
    }
  }

  /** The seconds before a call is retried after an error; null if it is not retried. */
  #pauseAfter(error: unknown, call: Call, attempt: number): number | null {
    const pause = this.pause(attempt);
    if (error instanceof RateLimitError) return this.#allowedPause(error.retryAfter, pause);
    if (error instanceof ServerError && error.status !== null && error.status >= 500) {
      return call.repeat === 'always' ? this.#allowedPause(retryAfters.get(error) ?? null, pause) : null;
    }
    if (error instanceof ConnectionError) {
      const failureKind = failureKindOf(error);
      if (failureKind === 'permanent') return null;
      return call.repeat === 'always' || failureKind === 'not-sent' ? pause : null;
    }
    return null;
  }

  #allowedPause(retryAfter: number | null, pause: number): number | null {
    if (retryAfter === null) return pause;
    return retryAfter > this.#retry.maxRetryAfter ? null : retryAfter;
  }

  /** The transport without its key. */
  toJSON(): object {
    return { root: this.root };
  }
}

/** Options without those that are undefined. */
function withoutUndefined(options: ChangedOptions): ChangedOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** Whether a response is HTML or JSON, such as a proxy's login page: it is certainly not an event stream. */
function isDocument({ headers }: FetchAnswer): boolean {
  return /html|json/i.test((headers.get('content-type') ?? '').split(';')[0] ?? '');
}

function notAStreamError(response: HttpResponse): ServerError {
  const { message, code, body } = parseError(response);
  return new ServerError(`The response is not an event stream: ${message}`, {
    status: response.status,
    code,
    requestId: getRequestId(response.headers),
    body,
  });
}

function toTimeoutError(error: unknown, limit: number): unknown {
  if (error instanceof TimeoutError || !(error instanceof HeadraceError)) return error;
  const { status, code, requestId } = error;
  return new TimeoutError(`${error.message} (timed out after ${formatSeconds(limit)})`, {
    status,
    code,
    requestId,
    cause: error,
  });
}

/** Whether a status does not show which server sent it: the server is overloaded, or broken. */
export function isInconclusive(status: number): boolean {
  return status === 429 || (status >= 500 && status !== 501);
}

/** Whether a response to GET /v1/parameters is of Dify's API, or ours that is like it: parameters or an error. */
function isParameters({ status, text }: HttpResponse): boolean {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return false;
  }
  if (!isObject(body)) return false;
  if (status < 300) return 'user_input_form' in body;
  return status !== 404 && body['status'] === status && 'code' in body && 'message' in body;
}

const retryAfters = new WeakMap<HeadraceError, number>();

/** The response's JSON object. ServerError if it is anything else. */
export function parseObject<T>(response: HttpResponse): T {
  let body: unknown;
  try {
    body = JSON.parse(response.text);
  } catch {
    body = null;
  }
  if (isObject(body)) return attachResponse(body as T & object, response);
  throw new ServerError('The response is not a JSON object.', {
    status: response.status,
    code: 'invalid_response',
    requestId: getRequestId(response.headers),
    body: response.text,
  });
}
