/** The part of `fetch` that this package uses; any implementation of it can be passed. */

/** The second argument of `fetch`; with `dispatcher`, if the client has one. */
export interface FetchInit {
  method: string;
  headers: Record<string, string>;
  body?: string | Uint8Array;
  redirect: 'manual';
  signal?: AbortSignal;
}

export interface AnswerHeaders {
  get(name: string): string | null;
  has(name: string): boolean;
}

/** The part of a Response that this package uses. */
export interface FetchAnswer {
  readonly status: number;
  readonly headers: AnswerHeaders;
  readonly body: { getReader(): { read(): Promise<{ value?: Uint8Array | undefined }> } } | null;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** A function like the global `fetch`: undici's, or your own. */
export type Fetch = (url: string, init: FetchInit) => Promise<FetchAnswer>;
