import type { Page } from './models.js';

/**
 * A paginated list: `for await` iterates over its items, `pages()` over its pages. A page is requested when it is
 * needed; each loop requests the pages anew.
 */
export class Pages<T> implements AsyncIterable<T> {
  readonly #fetchPage: (cursor: unknown) => Promise<Page<T>>;
  readonly #nextCursor: (page: Page<T>) => unknown;
  readonly #first: unknown;

  /** `ask` fetches the page of a cursor; `following` returns the cursor of the next page, undefined after the last. */
  constructor(ask: (cursor: unknown) => Promise<Page<T>>, following: (page: Page<T>) => unknown, first?: unknown) {
    this.#fetchPage = ask;
    this.#nextCursor = following;
    this.#first = first;
  }

  async *pages(): AsyncGenerator<Page<T>, void, undefined> {
    let cursor = this.#first;
    while (true) {
      const page = await this.#fetchPage(cursor);
      yield page;
      const nextCursor = page.data.length ? this.#nextCursor(page) : undefined;
      if (nextCursor === undefined || nextCursor === null || nextCursor === cursor) return;
      cursor = nextCursor;
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for await (const page of this.pages()) yield* page.data;
  }

  /** The first page. */
  first(): Promise<Page<T>> {
    return this.#fetchPage(this.#first);
  }
}
