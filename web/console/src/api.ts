/** Calls of the API by the console's session. */

import { ref } from 'vue';
import { serverEvents, StreamRefused, type ServerEvent, type StreamOptions } from '@ui/sse';

const API = '/api/v1';
export const SESSION_HEADER = { 'X-Headrace-Console': '1' };

/** The server's refusal, or status 0 where it could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export const signedIn = ref<boolean | null>(null); // null until it is known

export interface CallOptions {
  method?: string;
  json?: unknown;
  body?: BodyInit;
  headers?: Record<string, string>;
  query?: Record<string, string | number | null | undefined>;
  signal?: AbortSignal;
}

export function address(path: string, query: CallOptions['query'] = {}): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') params.set(name, String(value));
  }
  const text = params.toString();
  return API + path + (text ? `?${text}` : '');
}

/** The response, or an ApiError. A session that has ended leads to the page that signs in. */
export async function request(path: string, options: CallOptions = {}): Promise<Response> {
  const { json, query, headers, ...init } = options;
  const sent: RequestInit = { ...init, headers: { ...SESSION_HEADER, ...headers } };
  if (json !== undefined) {
    sent.method ??= 'POST';
    sent.body = JSON.stringify(json);
    sent.headers = { 'Content-Type': 'application/json', ...sent.headers };
  }
  let response: Response;
  try {
    response = await fetch(address(path, query), sent);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, 'unreachable', 'The server cannot be reached.');
  }
  if (response.ok) return response;
  throw refusal(response.status, await response.text());
}

export async function call<T>(path: string, options: CallOptions = {}): Promise<T> {
  const response = await request(path, options);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** The error of a response; its text need not be that of the API. */
export function refusal(status: number, text: string): ApiError {
  if (status === 401) signedIn.value = false;
  try {
    const body = JSON.parse(text) as { code?: string; message?: string };
    return new ApiError(status, body.code ?? 'unknown', body.message ?? text);
  } catch {
    return new ApiError(status, 'unknown', text.slice(0, 200) || `HTTP ${status}`);
  }
}

/** Events of the API until the caller stops reading; lost connections are resumed. */
export async function* follow(
  path: string,
  options: StreamOptions,
  query: CallOptions['query'] = {},
): AsyncGenerator<ServerEvent, void> {
  try {
    yield* serverEvents(address(path, query), { ...options, headers: { ...SESSION_HEADER, ...options.headers } });
  } catch (error) {
    throw error instanceof StreamRefused ? refusal(error.status, error.body) : error;
  }
}
