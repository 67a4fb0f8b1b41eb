import {
  ConnectionError,
  HeadraceError,
  RateLimitError,
  ServerError,
  TimeoutError,
  UsageError,
  errorOf,
  isObject,
  requestIdOf,
  retryAfterOf,
  secondsOf,
} from './errors.js';
import { Exchange, reachOf, spoken } from './http-request.js';
import type { Answer, Stream } from './http-request.js';
import { environment } from './platform.js';
import { received } from './responses.js';
import { Shared } from './shared-task.js';
import { DIFY_CLOUD, VERSION, headersOf, numberOf, rootsOf, sleep } from './options.js';
import type { Form } from './multipart.js';
import type { AnswerHeaders, Fetch, FetchAnswer, FetchInit } from './fetch.js';
import type { CallOptions, ChangedOptions, ClientOptions, Logger } from './options.js';

export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | null | undefined>>;

export interface Call extends CallOptions {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** From the server's root, such as `/v1/info`. */
  readonly path: string;
  readonly query?: Query;
  /** Sent as JSON. */
  readonly json?: unknown;
  readonly form?: Form;
  readonly headers?: Readonly<Record<string, string>>;
  /** `unsent`: repeated only where it surely did not arrive, or was refused for coming too soon. */
  readonly repeat: 'always' | 'unsent';
  /** Statuses that are answers too: what they mean is for the caller to say. */
  readonly accept?: (status: number, headers: AnswerHeaders) => boolean;
}

/** The header that every answer of Headrace's asynchronous API has. */
export const MARK = 'headrace-api-version';

/** Where a server's paths begin; clients made by `withOptions` share it. */
interface Address {
  root: string;
  /** The other address that the server may have, until it is known which it is. */
  other: string | null;
  settling: Shared<void> | null;
}

/** Sends calls: key, time-outs, repetitions, errors. One a client. */
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
  readonly #retry: { readonly delay: number; readonly factor: number; readonly jitter: number; readonly most: number };

  /** `address`: of another transport to the same server. */
  constructor(options: ClientOptions, address?: Address) {
    this.#options = options;
    const key = (options.apiKey ?? environment('API_KEY') ?? '').trim();
    if (!key) throw new UsageError('No API key: give apiKey, or set API_KEY in the environment.');
    if (!/^[\x21-\x7e]+$/.test(key)) throw new UsageError('The API key holds characters that no key has.');
    this.#key = key;
    this.#address = address ?? {
      ...rootsOf(options.baseUrl || environment('API_BASE_URL') || DIFY_CLOUD),
      settling: null,
    };
    this.#logger = options.logger;
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init));
    this.#dispatcher = options.dispatcher;
    this.#headers = headersOf(options.headers);
    this.#timeout = numberOf('timeout', options.timeout, 60);
    this.#silence = numberOf('streamSilence', options.streamSilence, 60);
    const retry = options.retry ?? {};
    this.maxRetries = numberOf('maxRetries', options.maxRetries ?? retry.maxRetries, 3);
    this.#retry = {
      delay: numberOf('delay', retry.delay, 1),
      factor: numberOf('factor', retry.factor, 2, 1),
      jitter: numberOf('jitter', retry.jitter, 0.25),
      most: numberOf('maxRetryAfter', retry.maxRetryAfter, 60),
    };
    this.sleep = options.sleep ?? sleep;
    this.clock = options.clock ?? (() => performance.now() / 1000);
  }

  /** Where the server's paths begin. */
  get root(): string {
    return this.#address.root;
  }

  /** The same server with other options; `headers` are added to those that there are. */
  withOptions(changed: ChangedOptions): Transport {
    const headers = headersOf(this.#options.headers, changed.headers);
    const retry = { ...this.#options.retry, ...changed.retry };
    const maxRetries = changed.maxRetries ?? changed.retry?.maxRetries ?? this.maxRetries;
    return new Transport({ ...this.#options, ...given(changed), headers, retry, maxRetries }, this.#address);
  }

  /** Sends a call and reads the answer. */
  send(call: Call): Promise<Answer> {
    return this.#repeated(call, (timeout) => this.#whole(call, timeout));
  }

  async #whole(call: Call, timeout: number, root = this.#address.root): Promise<Answer> {
    const began = this.clock();
    const exchange = this.#exchange(call, timeout, root);
    try {
      const response = await exchange.response();
      this.#log(call, response, began);
      const answer = await exchange.whole(response);
      this.#check(call, answer);
      return answer;
    } finally {
      exchange.end();
    }
  }

  /** Sends a call whose answer is JSON. */
  async json<T>(call: Call): Promise<T> {
    return parse<T>(await this.send(call));
  }

  /** Sends a call whose answer comes bit by bit. `timeout` is until it begins. */
  open(call: Call): Promise<Stream> {
    return this.#repeated(call, async (timeout) => {
      const began = this.clock();
      const exchange = this.#exchange(call, timeout, this.#address.root);
      try {
        const response = await exchange.response();
        this.#log(call, response, began);
        if (response.status >= 300 || isDocument(response)) {
          const answer = await exchange.whole(response);
          this.#check(call, answer);
          if (answer.status < 300 && !call.accept?.(answer.status, answer.headers)) throw noStream(answer);
          exchange.end();
          return spoken(answer);
        }
        return exchange.stream(response, this.#silence);
      } catch (error) {
        exchange.end();
        throw error;
      }
    });
  }

  /**
   * Finds out, once, which of its two addresses the server has, before anything else is asked of it: some paths are of
   * one API under the one, and of another under the other. Where it cannot be told for certain, `root` is taken, and the
   * next call asks again.
   */
  async #settle(signal: AbortSignal): Promise<void> {
    const accept = (status: number) => !isSilent(status);
    const call: Call = { method: 'GET', path: '/v1/parameters', repeat: 'always', accept, signal };
    for (const root of [this.#address.other ?? this.#address.root, this.#address.root]) {
      const answer = await this.#tried(call, (timeout) => this.#whole(call, timeout, root));
      const marked = answer.headers.has(MARK); // the asynchronous API has no such path: the `/api` is its own, then
      if (!marked && !isParameters(answer)) continue;
      if (!marked) this.#address.root = root;
      this.#address.other = null;
      return;
    }
  }

  /** The pause before the `attempt`th repetition (from 0), in seconds. */
  pause(attempt: number): number {
    const { delay, factor, jitter } = this.#retry;
    return delay * factor ** attempt * (1 + jitter * Math.random());
  }

  #exchange(call: Call, timeout: number, root: string): Exchange {
    const url = `${root}${call.path}${queryOf(call.query)}`;
    const usual = {
      Accept: 'application/json, text/event-stream; ids=true, */*',
      'User-Agent': `headrace-client-node/${VERSION}`,
    };
    const headers = headersOf(usual, this.#headers, call.headers, { Authorization: `Bearer ${this.#key}` });
    const init: FetchInit = { method: call.method, headers, redirect: 'manual' };
    if (call.json !== undefined) {
      init.headers = headersOf(headers, { 'Content-Type': 'application/json' });
      init.body = written(call.json);
    } else if (call.form) {
      init.headers = headersOf(headers, { 'Content-Type': call.form.type });
      init.body = call.form.body;
    }
    if (this.#dispatcher) Object.assign(init, { dispatcher: this.#dispatcher });
    return new Exchange(this.#fetch, url, init, call.signal, timeout);
  }

  #log(call: Call, { status, headers }: FetchAnswer, began: number): void {
    const took = (this.clock() - began).toFixed(3);
    this.#logger?.debug(`${call.method} ${call.path} answered ${status} in ${took} s, request ${requestIdOf(headers)}`);
  }

  #check(call: Call, answer: Answer): void {
    const { status, headers } = answer;
    if (status < 300 || call.accept?.(status, headers)) return;
    const error = errorOf({ ...answer, text: answer.text.replaceAll(this.#key, '***') });
    const retryAfter = retryAfterOf(headers);
    if (retryAfter !== null) retryAfters.set(error, retryAfter);
    throw error;
  }

  /** `attempt` is given its time-out in seconds. One that the call states is for all attempts and pauses together. */
  async #repeated<T>(call: Call, attempt: (timeout: number) => Promise<T>): Promise<T> {
    const limit = numberOf('timeout', call.timeout, 0);
    const until = limit ? this.clock() + limit : Infinity;
    call.signal?.throwIfAborted();
    if (this.#address.other !== null) {
      this.#address.settling ??= new Shared(
        (unwanted) => this.#settle(unwanted),
        () => (this.#address.settling = null),
      );
      await this.#address.settling.within(limit, call.signal);
    }
    return this.#tried(call, attempt, limit, until);
  }

  async #tried<T>(call: Call, attempt: (timeout: number) => Promise<T>, limit = 0, until = Infinity): Promise<T> {
    for (let repeated = 0; ; repeated++) {
      call.signal?.throwIfAborted();
      try {
        return await attempt(limit ? Math.max(0.001, until - this.clock()) : this.#timeout);
      } catch (error) {
        const pause = repeated < this.maxRetries ? this.#pauseAfter(error, call, repeated) : null;
        if (pause === null) throw error;
        if (this.clock() + pause >= until) throw timedOut(error, limit);
        const reason = error instanceof Error ? error.message : String(error);
        this.#logger?.info(`${call.method} ${call.path}: ${reason}; trying again in ${pause.toFixed(1)} s`);
        await this.sleep(pause, call.signal);
      }
    }
  }

  /** Seconds until a call is repeated after an error; null where it is not. */
  #pauseAfter(error: unknown, call: Call, repeated: number): number | null {
    const usual = this.pause(repeated);
    if (error instanceof RateLimitError) return this.#asked(error.retryAfter, usual);
    if (error instanceof ServerError && error.status !== null && error.status >= 500) {
      return call.repeat === 'always' ? this.#asked(retryAfters.get(error) ?? null, usual) : null;
    }
    if (error instanceof ConnectionError) {
      const reach = reachOf(error);
      if (reach === 'hopeless') return null;
      return call.repeat === 'always' || reach === 'nothing' ? usual : null;
    }
    return null;
  }

  #asked(retryAfter: number | null, usual: number): number | null {
    if (retryAfter === null) return usual;
    return retryAfter > this.#retry.most ? null : retryAfter;
  }

  /** The client is shown without its key. */
  toJSON(): object {
    return { root: this.root };
  }
}

/** Options without those that are undefined. */
function given(options: ChangedOptions): ChangedOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** A request's body. UsageError for what cannot be JSON: a cycle, a BigInt. */
function written(json: unknown): string {
  try {
    return JSON.stringify(json);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UsageError(`The request cannot be written as JSON: ${reason}`, { cause });
  }
}

/** A page or JSON, such as a login page of a proxy: no stream of events for certain. */
function isDocument({ headers }: FetchAnswer): boolean {
  return /html|json/i.test((headers.get('content-type') ?? '').split(';')[0] ?? '');
}

function noStream(answer: Answer): ServerError {
  const { message, code, body } = errorOf(answer);
  return new ServerError(`The answer is not a stream of events: ${message}`, {
    status: answer.status,
    code,
    requestId: requestIdOf(answer.headers),
    body,
  });
}

function timedOut(error: unknown, limit: number): unknown {
  if (error instanceof TimeoutError || !(error instanceof HeadraceError)) return error;
  const { status, code, requestId } = error;
  return new TimeoutError(`${error.message} (and ${secondsOf(limit)} are over)`, {
    status,
    code,
    requestId,
    cause: error,
  });
}

/** Whether an answer says nothing of which server it is from: it is too busy, or broken. */
export function isSilent(status: number): boolean {
  return status === 429 || (status >= 500 && status !== 501);
}

/** Whether Dify's API, or ours that is like it, has answered GET /v1/parameters: with them, or with a refusal. */
function isParameters({ status, text }: Answer): boolean {
  let told: unknown;
  try {
    told = JSON.parse(text);
  } catch {
    return false;
  }
  if (!isObject(told)) return false;
  if (status < 300) return 'user_input_form' in told;
  return status !== 404 && told['status'] === status && 'code' in told && 'message' in told;
}

const retryAfters = new WeakMap<HeadraceError, number>();

/** An answer's JSON object. ServerError where it is anything else. */
export function parse<T>(answer: Answer): T {
  let told: unknown;
  try {
    told = JSON.parse(answer.text);
  } catch {
    told = null;
  }
  if (isObject(told)) return received(told as T & object, answer);
  throw new ServerError('The server answered with something that is not a JSON object.', {
    status: answer.status,
    code: 'invalid_response',
    requestId: requestIdOf(answer.headers),
    body: answer.text,
  });
}

function queryOf(query: Query | undefined): string {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === undefined || value === null) continue;
    for (const each of Array.isArray(value) ? (value as readonly string[]) : [value]) told.append(name, String(each));
  }
  const text = told.toString();
  return text ? `?${text}` : '';
}
