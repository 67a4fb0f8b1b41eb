/** The HTTP responses of returned objects: stored beside the objects, which are as the server sent them. */

import { getRequestId } from './errors.js';
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

/** The HTTP response of a returned object or page; undefined for an object that this package did not return. */
export function responseOf(answer: object): RawResponse | undefined {
  return responses.get(answer);
}

/** Stores the HTTP response of an object, and returns the object. */
export function attachResponse<T extends object>(value: T, response: Omit<RawResponse, 'requestId'>): T {
  const { status, headers, bytes } = response;
  responses.set(value, { status, headers, bytes, requestId: getRequestId(headers) });
  return value;
}

/** Gives an object the HTTP response of the object that it was made from. */
export function copyResponse<T extends object>(from: object, to: T): T {
  const response = responses.get(from);
  if (response) responses.set(to, response);
  return to;
}
