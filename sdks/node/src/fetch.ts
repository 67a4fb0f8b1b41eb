/** The part of `fetch` that is needed, whichever implementation is given. */

/** What `fetch` is called with; and `dispatcher`, if one was given. */
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

/** What is needed of a `fetch`'s Response. */
export interface FetchAnswer {
  readonly status: number;
  readonly headers: AnswerHeaders;
  readonly body: { getReader(): { read(): Promise<{ value?: Uint8Array | undefined }> } } | null;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** What can be called like the global `fetch`: also undici's, or one of your own. */
export type Fetch = (url: string, init: FetchInit) => Promise<FetchAnswer>;
