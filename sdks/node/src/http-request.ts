/** One exchange over a connection: time-outs, the caller's signal, and what its failures say. */

import { ConnectionError, HeadraceError, TimeoutError, secondsOf } from './errors.js';
import type { AnswerHeaders, Fetch, FetchAnswer, FetchInit } from './fetch.js';

/** An answer, read to its end. */
export interface Answer {
  readonly status: number;
  readonly headers: AnswerHeaders;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** An answer whose body is still to come. */
export interface Stream {
  readonly status: number;
  readonly headers: AnswerHeaders;
  /**
   * The next bytes; null at the end. `silence`: seconds that they may take, other than usually. ConnectionError where
   * the connection broke or fell silent.
   */
  read(silence?: number): Promise<Uint8Array | null>;
  /** Lets go of the connection. */
  close(): void;
}

const REACHED_NOTHING = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'UND_ERR_CONNECT_TIMEOUT',
]);
const UNTRUSTED = /^(CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_TLS_|ERR_SSL_|HOSTNAME_MISMATCH|ERR_INVALID_)/;
export const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds: setTimeout takes no more

type Reach = 'nothing' | 'hopeless' | 'perhaps';

const reaches = new WeakMap<ConnectionError, Reach>();

/** What a connection's failure says of whether the request arrived; `hopeless`: it would fail again. */
export function reachOf(error: ConnectionError): Reach {
  return reaches.get(error) ?? 'perhaps';
}

/** One attempt of a call. */
export class Exchange {
  readonly #aborter = new AbortController();
  readonly #started: Promise<FetchAnswer>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #silent: string | null = null;

  constructor(
    send: Fetch,
    url: string,
    init: FetchInit,
    private readonly signal: AbortSignal | undefined,
    timeout: number,
  ) {
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    this.#expect(timeout, `No answer came within ${secondsOf(timeout)}.`);
    this.#started = (async () => send(url, { ...init, signal: this.#aborter.signal }))();
  }

  async response(): Promise<FetchAnswer> {
    try {
      return await this.#started;
    } catch (error) {
      throw this.#failure(error);
    }
  }

  async whole(response: FetchAnswer): Promise<Answer> {
    try {
      const bytes = new Uint8Array(await response.arrayBuffer());
      let text: string | null = null;
      return {
        status: response.status,
        headers: response.headers,
        bytes,
        get text() {
          text ??= new TextDecoder().decode(bytes);
          return text;
        },
      };
    } catch (error) {
      throw this.#failure(error);
    }
  }

  stream(response: FetchAnswer, silence: number): Stream {
    const reader = response.body?.getReader();
    clearTimeout(this.#timer);
    return {
      status: response.status,
      headers: response.headers,
      read: async (limit = silence) => {
        this.#expect(limit, `The stream said nothing for ${secondsOf(limit)}.`);
        try {
          const piece = await reader?.read();
          return piece?.value ?? null;
        } catch (error) {
          throw this.#failure(error);
        } finally {
          clearTimeout(this.#timer);
        }
      },
      close: () => {
        this.#aborter.abort();
        this.end();
      },
    };
  }

  /** Forgets the signal and the timer. */
  end(): void {
    clearTimeout(this.#timer);
    this.signal?.removeEventListener('abort', this.#onAbort);
  }

  readonly #onAbort = (): void => this.#aborter.abort(this.signal?.reason);

  #expect(seconds: number, otherwise: string): void {
    clearTimeout(this.#timer);
    if (seconds <= 0 || seconds * 1000 > LONGEST_TIMER) return;
    this.#timer = setTimeout(() => {
      this.#silent = otherwise;
      this.#aborter.abort();
    }, seconds * 1000);
  }

  /** What a rejection of `fetch`, or of a body, is told as. */
  #failure(error: unknown): unknown {
    if (this.signal?.aborted) return this.signal.reason;
    if (this.#silent !== null) return new TimeoutError(this.#silent, { cause: error });
    if (error instanceof HeadraceError) return error;
    const code = codeOf(error);
    const failure = new ConnectionError(`No connection to the server: ${wordsOf(error)}`, { code, cause: error });
    if (code && REACHED_NOTHING.has(code)) reaches.set(failure, 'nothing');
    else if (code && UNTRUSTED.test(code)) reaches.set(failure, 'hopeless');
    return failure;
  }
}

/** An answer that is whole already, as a stream. */
export function spoken(answer: Answer): Stream {
  let rest: Uint8Array | null = answer.bytes;
  return {
    status: answer.status,
    headers: answer.headers,
    read: () => {
      const bytes = rest;
      rest = null;
      return Promise.resolve(bytes);
    },
    close: () => {},
  };
}

/** The system's code of what lies behind an error, such as `ECONNREFUSED`. */
function codeOf(error: unknown): string | null {
  let at = error;
  for (let depth = 0; at instanceof Error && depth < 5; depth++) {
    if ('code' in at && typeof at.code === 'string') return at.code;
    at = at instanceof AggregateError ? at.errors[0] : at.cause;
  }
  return null;
}

function wordsOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error)) return String(cause);
  return cause.message || codeOf(cause) || cause.name;
}
