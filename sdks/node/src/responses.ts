/** The HTTP responses that answers came with: kept beside the answers, which are as the server sent them. */

import { requestIdOf } from './errors.js';
import type { AnswerHeaders } from './fetch.js';

/** An HTTP response. `bytes` is its body. */
export interface RawResponse {
  readonly status: number;
  readonly headers: AnswerHeaders;
  readonly bytes: Uint8Array;
  /** The server's id of the request, for its logs. */
  readonly requestId: string | null;
}

const responses = new WeakMap<object, RawResponse>();

/** The response that an answer or a page came with; undefined for what this package did not return. */
export function responseOf(answer: object): RawResponse | undefined {
  return responses.get(answer);
}

/** Remembers the response of an answer, and returns the answer. */
export function received<T extends object>(answer: T, response: Omit<RawResponse, 'requestId'>): T {
  const { status, headers, bytes } = response;
  responses.set(answer, { status, headers, bytes, requestId: requestIdOf(headers) });
  return answer;
}

/** An answer that was made from another has its response. */
export function carried<T extends object>(from: object, to: T): T {
  const response = responses.get(from);
  if (response) responses.set(to, response);
  return to;
}
