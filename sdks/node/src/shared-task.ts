import { TimeoutError, formatSeconds } from './errors.js';
import { LONGEST_TIMER } from './http-request.js';

/** A task that several calls wait for. It is aborted, and `onAbandoned` called, when no call waits any more. */
export class SharedTask<T> {
  readonly #aborter = new AbortController();
  readonly #result: Promise<T>;
  #waiting = 0;

  constructor(
    task: (signal: AbortSignal) => Promise<T>,
    private readonly onAbandoned: () => void,
  ) {
    this.#result = task(this.#aborter.signal);
  }

  /** The task's result, for a call that may wait `limit` seconds (0: no limit). */
  wait(limit: number, signal: AbortSignal | undefined): Promise<T> {
    this.#waiting++;
    let timer: NodeJS.Timeout | undefined;
    let stop = () => {};
    const interrupted = new Promise<never>((_, reject) => {
      stop = () => reject(signal?.reason);
      signal?.addEventListener('abort', stop, { once: true });
      if (limit > 0 && limit * 1000 <= LONGEST_TIMER)
        timer = setTimeout(() => reject(new TimeoutError(`No response within ${formatSeconds(limit)}.`)), limit * 1000);
    });
    return Promise.race([this.#result, interrupted]).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      if (--this.#waiting > 0) return;
      this.#aborter.abort();
      this.onAbandoned();
    });
  }
}
