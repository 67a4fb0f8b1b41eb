/** Calls of the API by the console's session. */

import { ref } from 'vue';
import { serverEvents, StreamRefused, type ServerEvent, type StreamOptions } from '@ui/sse';
import { t } from './messages';
import type { Page } from './model';

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
    throw unreachable();
  }
  if (response.ok) return response;
  throw refusal(response.status, await response.text());
}

export async function call<T>(path: string, options: CallOptions = {}): Promise<T> {
  const response = await request(path, options);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

const LARGEST_PAGE = 100;

/** The first rows of a list, from as many of its pages as that takes. */
export async function firstRows<T>(path: string, count: number, options: CallOptions = {}): Promise<Page<T>> {
  const data: T[] = [];
  let cursor: string | null = null;
  do {
    const query = { ...options.query, limit: Math.min(LARGEST_PAGE, count - data.length), cursor };
    const page: Page<T> = await call<Page<T>>(path, { ...options, query });
    data.push(...page.data);
    cursor = page.next_cursor;
  } while (cursor && data.length < count);
  return { data, next_cursor: cursor };
}

export const unreachable = (): ApiError => new ApiError(0, 'unreachable', t.value.unreachable);

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
