/** One HTTP request: timeouts, the caller's signal, and the errors of a failed connection. */

import { ConnectionError, HeadraceError, ServerError, TimeoutError, formatSeconds } from './errors.js';
import type { AnswerHeaders, Fetch, FetchAnswer, FetchInit } from './fetch.js';

/** A response with its whole body. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: AnswerHeaders;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** A response whose body is read chunk by chunk. */
export interface ResponseStream {
  readonly status: number;
  readonly headers: AnswerHeaders;
  /**
   * The next bytes; null at the end. `silence`: seconds to wait for them, if not the default. ConnectionError if the
   * connection broke or timed out.
   */
  read(silence?: number): Promise<Uint8Array | null>;
  /** Closes the connection. */
  close(): void;
}

const NOT_SENT_CODES = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'UND_ERR_CONNECT_TIMEOUT',
]);
const TLS_ERROR_CODES = /^(CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_TLS_|ERR_SSL_|HOSTNAME_MISMATCH|ERR_INVALID_)/;
export const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds: the maximum of setTimeout

type FailureKind = 'not-sent' | 'permanent' | 'unknown';

const failureKinds = new WeakMap<ConnectionError, FailureKind>();

/** Whether the request may have reached the server (`unknown`); `permanent`: a retry would fail in the same way. */
export function failureKindOf(error: ConnectionError): FailureKind {
  return failureKinds.get(error) ?? 'unknown';
}

/** One attempt of a call: a request and its response. */
export class HttpRequest {
  readonly #aborter = new AbortController();
  readonly #response: Promise<FetchAnswer>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timeoutMessage: string | null = null;

  constructor(
    send: Fetch,
    url: string,
    init: FetchInit,
    private readonly signal: AbortSignal | undefined,
    timeout: number,
  ) {
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    this.#startTimer(timeout, `No response within ${formatSeconds(timeout)}.`);
    this.#response = (async () => send(url, { ...init, signal: this.#aborter.signal }))();
  }

  async response(): Promise<FetchAnswer> {
    try {
      return await this.#response;
    } catch (error) {
      throw this.#toError(error);
    }
  }

  async readBody(response: FetchAnswer): Promise<HttpResponse> {
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
      throw this.#toError(error);
    }
  }

  stream(response: FetchAnswer, silence: number): ResponseStream {
    const reader = response.body?.getReader();
    clearTimeout(this.#timer);
    return {
      status: response.status,
      headers: response.headers,
      read: async (limit = silence) => {
        this.#startTimer(limit, `The stream was silent for ${formatSeconds(limit)}.`);
        try {
          const chunk = await reader?.read();
          return chunk?.value ?? null;
        } catch (error) {
          throw this.#toError(error);
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

  /** Removes the signal's listener and the timer. */
  end(): void {
    clearTimeout(this.#timer);
    this.signal?.removeEventListener('abort', this.#onAbort);
  }

  readonly #onAbort = (): void => this.#aborter.abort(this.signal?.reason);

  #startTimer(seconds: number, timeoutMessage: string): void {
    clearTimeout(this.#timer);
    if (seconds <= 0 || seconds * 1000 > LONGEST_TIMER) return;
    this.#timer = setTimeout(() => {
      this.#timeoutMessage = timeoutMessage;
      this.#aborter.abort();
    }, seconds * 1000);
  }

  /** A rejection of `fetch`, or of reading a body, as an error of this package. */
  #toError(error: unknown): unknown {
    if (this.signal?.aborted) return this.signal.reason;
    if (this.#timeoutMessage !== null) return new TimeoutError(this.#timeoutMessage, { cause: error });
    if (error instanceof HeadraceError) return error;
    const code = codeOf(error);
    const failure = new ConnectionError(`Connection failed: ${messageOf(error)}`, { code, cause: error });
    if (code && NOT_SENT_CODES.has(code)) failureKinds.set(failure, 'not-sent');
    else if (code && TLS_ERROR_CODES.test(code)) failureKinds.set(failure, 'permanent');
    return failure;
  }
}

/** Whether the server may have done what it was asked to do, although it returned an error, or nothing. */
export function mayHaveArrived(error: unknown): boolean {
  if (error instanceof ServerError) return (error.status ?? 0) >= 500;
  return error instanceof ConnectionError && failureKindOf(error) !== 'not-sent';
}

/** A response with its whole body as a stream. */
export function toStream(response: HttpResponse): ResponseStream {
  let remaining: Uint8Array | null = response.bytes;
  return {
    status: response.status,
    headers: response.headers,
    read: () => {
      const bytes = remaining;
      remaining = null;
      return Promise.resolve(bytes);
    },
    close: () => {},
  };
}

/** The system's error code behind an error, such as `ECONNREFUSED`. */
function codeOf(error: unknown): string | null {
  let current = error;
  for (let depth = 0; current instanceof Error && depth < 5; depth++) {
    if ('code' in current && typeof current.code === 'string') return current.code;
    current = current instanceof AggregateError ? current.errors[0] : current.cause;
  }
  return null;
}

function messageOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error)) return String(cause);
  return cause.message || codeOf(cause) || cause.name;
}
