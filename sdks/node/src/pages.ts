import type { Page } from './models.js';

/**
 * A list of any length: `for await` tells its entries, `pages()` its pages. A page is asked for when it is needed; each
 * loop asks anew.
 */
export class Pages<T> implements AsyncIterable<T> {
  readonly #ask: (mark: unknown) => Promise<Page<T>>;
  readonly #following: (page: Page<T>) => unknown;
  readonly #first: unknown;

  /** `ask` gets the page that a mark names; `following` tells the mark of the next one, undefined after the last. */
  constructor(ask: (mark: unknown) => Promise<Page<T>>, following: (page: Page<T>) => unknown, first?: unknown) {
    this.#ask = ask;
    this.#following = following;
    this.#first = first;
  }

  async *pages(): AsyncGenerator<Page<T>, void, undefined> {
    let mark = this.#first;
    while (true) {
      const page = await this.#ask(mark);
      yield page;
      const following = page.data.length ? this.#following(page) : undefined;
      if (following === undefined || following === null || following === mark) return;
      mark = following;
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for await (const page of this.pages()) yield* page.data;
  }

  /** The first page. */
  first(): Promise<Page<T>> {
    return this.#ask(this.#first);
  }
}
