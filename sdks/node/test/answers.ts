/** Answers that are made up, without a network. */

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
  const found = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  return { get: (name) => found.get(name.toLowerCase()) ?? null, has: (name) => found.has(name.toLowerCase()) };
};

/** A stream of these pieces, which then breaks off, unless it is to end in order. */
export function stream(
  pieces: readonly Uint8Array[],
  broken = false,
  headers: Record<string, string> = {},
): FetchAnswer {
  const left = [...pieces];
  const read = async () => {
    if (!left.length && broken) throw new TypeError('terminated');
    return { value: left.shift() };
  };
  return {
    status: 200,
    headers: headersOf({ ...SSE, ...headers }),
    body: { getReader: () => ({ read }) },
    arrayBuffer: () => Promise.reject(new Error('a stream is not read at once')),
  };
}

/** An answer that is whole. */
export function whole(text: string, status: number, headers: Record<string, string>): FetchAnswer {
  const arrayBuffer = async () => bytesOf(text).buffer as ArrayBuffer;
  return { status, headers: headersOf(headers), body: null, arrayBuffer };
}

export const json = (told: object, headers: Record<string, string> = {}): FetchAnswer =>
  whole(JSON.stringify(told), 200, { 'Content-Type': 'application/json', ...headers });

export const notFound = (): FetchAnswer => whole('<html>not found</html>', 404, { 'Content-Type': 'text/html' });

/** A client whose server answers so. */
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

/** A client whose server streams these pieces. */
export const streaming = (...pieces: (string | Uint8Array)[]): DifyClient =>
  answering(() => stream(pieces.map((each) => (typeof each === 'string' ? bytesOf(each) : each))));
