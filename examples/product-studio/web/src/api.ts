/** The back end's API. The workflow and its key are behind it: the browser calls neither. */

import { eventsOf, serverEvents, type StreamOptions } from '@ui/sse';

const DETAIL = '/api/Dify/CreateProductDetail';

export const STEPS = ['check', 'write', 'picture'] as const;
export type StepName = (typeof STEPS)[number];

export type Reason =
  | 'busy'
  | 'configuration'
  | 'credentials'
  | 'expired'
  | 'gone'
  | 'limit'
  | 'model'
  | 'picture'
  | 'rejected'
  | 'run'
  | 'service'
  | 'stopped'
  | 'timeout'
  | 'title'
  | 'unreachable';

/** The events of a run; the last is `finished`, `failed`, or `interrupted` if the run can be followed again. */
export type Progress =
  | { kind: 'started'; run_id: string; task_id: string | null }
  | { kind: 'step'; step: StepName; state: 'running' | 'done' | 'failed'; seconds: number }
  | { kind: 'text'; text: string }
  | { kind: 'waiting'; form_url: string | null }
  | { kind: 'finished'; description: string; picture_id: string | null; picture_url: string | null }
  | { kind: 'failed'; reason: Reason }
  | { kind: 'interrupted' };

export interface NewProduct {
  title: string;
  description: string;
  picture_id: string | null;
}

export interface Product extends NewProduct {
  id: number;
  picture_url: string | null;
  created_at: string;
}

export interface ProductPage {
  products: Product[];
  total: number;
  has_more: boolean;
}

export interface Picture {
  picture_id: string;
  picture_url: string;
}

/** The server responded, but not with a success. */
export class Refused extends Error {
  constructor(readonly status: number) {
    super(`HTTP ${status}`);
  }
}

async function call(path: string, options: RequestInit = {}): Promise<Response> {
  const response = await fetch(path, options);
  if (!response.ok) throw new Refused(response.status);
  return response;
}

function json(method: 'POST' | 'PUT', body: unknown): RequestInit {
  return { method, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
}

/**
 * Starts a run, or continues a failed one where the server can. Aborting before the event `started` stops it; after that
 * it continues without this page.
 */
export async function* startRun(title: string, retryOf: string | null, signal: AbortSignal): AsyncGenerator<Progress> {
  const connection = new AbortController();
  const body = { product_name: title, retry_of: retryOf };
  const options = { ...json('POST', body), signal: AbortSignal.any([signal, connection.signal]) };
  const response = await call(`${DETAIL}/stream`, options);
  for await (const event of eventsOf(response, connection)) if (event.data) yield JSON.parse(event.data) as Progress;
}

/** A run from its start, over as many connections as it takes. */
export async function* followRun(runId: string, options: StreamOptions): AsyncGenerator<Progress> {
  const url = `${DETAIL}/runs/${encodeURIComponent(runId)}/stream`;
  for await (const event of serverEvents(url, options)) yield JSON.parse(event.data) as Progress;
}

const STOP_PATIENCE = 10_000; // ms

export async function stopRun(taskId: string): Promise<void> {
  await call(`${DETAIL}/stop`, { ...json('POST', { task_id: taskId }), signal: AbortSignal.timeout(STOP_PATIENCE) });
}

export async function products(before?: number): Promise<ProductPage> {
  return (await call(before === undefined ? '/api/products' : `/api/products?before=${before}`)).json();
}

export async function addProduct(product: NewProduct): Promise<Product> {
  return (await call('/api/products', json('POST', product))).json();
}

/** Replaces a product, or restores a deleted one. */
export async function putProduct(id: number, { title, description, picture_id }: NewProduct): Promise<Product> {
  return (await call(`/api/products/${id}`, json('PUT', { title, description, picture_id }))).json();
}

export async function deleteProduct(id: number): Promise<void> {
  await call(`/api/products/${id}`, { method: 'DELETE' });
}

export function pictureOf(id: string): Picture {
  return { picture_id: id, picture_url: `/api/pictures/${encodeURIComponent(id)}` };
}

const LARGEST = 5 * 1024 * 1024; // bytes of a picture

/** A picture that is too large is refused before it is sent: a server that stops reading just closes the connection. */
export async function upload(file: File): Promise<Picture> {
  if (file.size > LARGEST) throw new Refused(413);
  const headers = { 'Content-Type': file.type.startsWith('image/') ? file.type : 'image/unknown' };
  return (await call('/api/pictures', { method: 'POST', headers, body: file })).json();
}
