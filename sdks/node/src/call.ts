import { UsageError } from './errors.js';
import type { AnswerHeaders } from './fetch.js';
import type { Form } from './multipart.js';
import type { CallOptions } from './options.js';

export type Query = Readonly<Record<string, string | number | boolean | readonly string[] | null | undefined>>;

/** A call of the API, which `Transport` sends. */
export interface Call extends CallOptions {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** The path after the server's root, such as `/v1/info`. */
  readonly path: string;
  readonly query?: Query;
  /** Sent as JSON. */
  readonly json?: unknown;
  readonly form?: Form;
  readonly headers?: Readonly<Record<string, string>>;
  /** `unsent`: retried only if it certainly did not reach the server, or was rate limited. */
  readonly repeat: 'always' | 'unsent';
  /** Whether an error status is not to be thrown as an error, but returned to the caller. */
  readonly accept?: (status: number, headers: AnswerHeaders) => boolean;
}

/** A request's body. UsageError if it cannot be JSON: a cycle, a BigInt. */
export function serialize(json: unknown): string {
  try {
    return JSON.stringify(json);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UsageError(`The request cannot be serialized as JSON: ${reason}`, { cause });
  }
}

export function formatQuery(query: Query | undefined): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === undefined || value === null) continue;
    for (const item of Array.isArray(value) ? (value as readonly string[]) : [value]) params.append(name, String(item));
  }
  const text = params.toString();
  return text ? `?${text}` : '';
}
