/** Simulated responses, without a network. */

import type { ClientOptions, DifyClient, FetchAnswer } from 'headrace-client';
import { Pauses, clientOf } from './servers.js';

export const SSE = { 'Content-Type': 'text/event-stream' };
export const DETAIL = {
  id: 'run-1',
  workflow_id: 'w',
  status: 'succeeded',
  outputs: '{"text": "Hello hi! 12"}',
  error: null,
};

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

const headersOf = (headers: Record<string, string>): FetchAnswer['headers'] => {
  const values = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  return { get: (name) => values.get(name.toLowerCase()) ?? null, has: (name) => values.has(name.toLowerCase()) };
};

/** A stream of these chunks, which then breaks if `broken`. */
export function stream(
  chunks: readonly Uint8Array[],
  broken = false,
  headers: Record<string, string> = {},
): FetchAnswer {
  const remaining = [...chunks];
  const read = async () => {
    if (!remaining.length && broken) throw new TypeError('terminated');
    return { value: remaining.shift() };
  };
  return {
    status: 200,
    headers: headersOf({ ...SSE, ...headers }),
    body: { getReader: () => ({ read }) },
    arrayBuffer: () => Promise.reject(new Error('a stream has no whole body')),
  };
}

/** A complete response. */
export function whole(text: string, status: number, headers: Record<string, string>): FetchAnswer {
  const arrayBuffer = async () => bytesOf(text).buffer as ArrayBuffer;
  return { status, headers: headersOf(headers), body: null, arrayBuffer };
}

export const json = (body: object, headers: Record<string, string> = {}): FetchAnswer =>
  whole(JSON.stringify(body), 200, { 'Content-Type': 'application/json', ...headers });

export const notFound = (): FetchAnswer => whole('<html>not found</html>', 404, { 'Content-Type': 'text/html' });

/** A client whose server responds with `answer`. */
export function answering(
  answer: (path: string, headers: Record<string, string>) => FetchAnswer,
  options: ClientOptions = {},
): DifyClient {
  return clientOf({ url: 'http://h.example' }, 'k', {
    ...new Pauses().options,
    fetch: async (url, init) => answer(new URL(url).pathname, init.headers),
    ...options,
  });
}

/** A client whose server streams these chunks. */
export const streaming = (...chunks: (string | Uint8Array)[]): DifyClient =>
  answering(() => stream(chunks.map((chunk) => (typeof chunk === 'string' ? bytesOf(chunk) : chunk))));
