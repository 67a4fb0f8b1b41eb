import { TimeoutError, secondsOf } from './errors.js';
import { LONGEST_TIMER } from './http-request.js';

/** Work that many calls wait for. It is given up, and `left` is called, once none of them does. */
export class Shared<T> {
  readonly #aborter = new AbortController();
  readonly #done: Promise<T>;
  #waiting = 0;

  constructor(
    work: (signal: AbortSignal) => Promise<T>,
    private readonly left: () => void,
  ) {
    this.#done = work(this.#aborter.signal);
  }

  /** What comes of it, for a call that may take `limit` seconds (0: for ever). */
  within(limit: number, signal: AbortSignal | undefined): Promise<T> {
    this.#waiting++;
    let timer: NodeJS.Timeout | undefined;
    let stop = () => {};
    const over = new Promise<never>((_, reject) => {
      stop = () => reject(signal?.reason);
      signal?.addEventListener('abort', stop, { once: true });
      if (limit > 0 && limit * 1000 <= LONGEST_TIMER)
        timer = setTimeout(() => reject(new TimeoutError(`No answer came within ${secondsOf(limit)}.`)), limit * 1000);
    });
    return Promise.race([this.#done, over]).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      if (--this.#waiting > 0) return;
      this.#aborter.abort();
      this.left();
    });
  }
}
