/** The back end's API. The workflow itself, and its key, are behind it: the browser never talks to them. */

const DETAIL = '/api/Dify/CreateProductDetail';

export type Reason = 'busy' | 'configuration' | 'run' | 'service' | 'stopped' | 'timeout' | 'unreachable';

/** What the stream tells while a run goes on; the last is `finished` or `failed`. */
export type Progress =
  | { kind: 'started'; task_id: string; run_id: string }
  | { kind: 'node'; id: string; title: string; state: 'running' | 'done' | 'failed' }
  | { kind: 'text'; text: string }
  | { kind: 'finished'; description: string; picture_id: string | null; picture_url: string | null }
  | { kind: 'failed'; reason: Reason; node: string | null };

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

export interface Picture {
  picture_id: string;
  picture_url: string;
}

/** The server answered, but not with what was asked for. */
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

function json(body: unknown): RequestInit {
  return { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
}

/** Runs the workflow. Aborting the signal, or leaving the page, stops the run. */
export async function* generate(name: string, signal: AbortSignal): AsyncGenerator<Progress> {
  const response = await call(`${DETAIL}/stream`, { ...json({ product_name: name }), signal });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      // other lines are comments, which keep the connection alive
      if (block.startsWith('data: ')) yield JSON.parse(block.slice('data: '.length)) as Progress;
    }
  }
}

export async function stop(taskId: string): Promise<void> {
  await call(`${DETAIL}/stop`, json({ task_id: taskId }));
}

export async function products(before?: number): Promise<{ products: Product[]; has_more: boolean }> {
  const response = await call(before === undefined ? '/api/products' : `/api/products?before=${before}`);
  return response.json();
}

export async function save(product: NewProduct): Promise<Product> {
  return (await call('/api/products', json(product))).json();
}

const LARGEST = 5 * 1024 * 1024; // bytes of a picture

/** A picture that is too large is refused here already: a server that does not read it to its end just hangs up. */
export async function upload(file: File): Promise<Picture> {
  if (file.size > LARGEST) throw new Refused(413);
  const headers = { 'Content-Type': file.type.startsWith('image/') ? file.type : 'image/unknown' };
  return (await call('/api/pictures', { method: 'POST', headers, body: file })).json();
}
