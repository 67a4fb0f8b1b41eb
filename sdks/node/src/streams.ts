import type { Stream } from './http-request.js';
import { ConnectionError, HeadraceError, StreamInterruptedError, isObject, requestIdOf } from './errors.js';
import type { WorkflowRun } from './models.js';
import { runOf } from './models.js';
import type { Reader, Told } from './event-reader.js';

/** How a stream begins, and how it goes on after a cut. */
export interface Source {
  start(): Promise<Stream>;
  /** The stream from where it was cut; null where the server has no such thing. */
  resume(reader: Reader): Promise<Stream | null>;
  /** The events that the stream would have ended with, made from what can be asked now. */
  outcome(reader: Reader): Promise<Told[]>;
  /** Waits before another try (from 0) to go on after one that brought nothing. */
  pause(fruitless: number): Promise<void>;
}

// seconds after the last event in which the server should close the stream: the connection is then kept
const LINGER = 1;
const TRIES = 4; // connections in a row that bring nothing

/**
 * The events of a run as they come, each told once: `for await (const event of stream)`.
 *
 * It begins when it is first asked for an event. A cut connection is resumed where the server can; where it cannot, the
 * run's outcome is fetched, and told as one event (`synthesized`). StreamInterruptedError where that fails, too. Leaving
 * the loop lets the connection go; the run goes on.
 */
export class EventStream<E> implements AsyncIterableIterator<E> {
  readonly #reader: Reader;
  readonly #events: AsyncGenerator<Told, void, undefined>;
  readonly #open: { current: Stream | null; closed: boolean };

  constructor(source: Source, reader: Reader) {
    this.#reader = reader;
    this.#open = { current: null, closed: false };
    this.#events = eventsOf(source, reader, this.#open);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<E, undefined>> {
    return this.#events.next() as Promise<IteratorResult<E, undefined>>;
  }

  /** Lets the connection go, also while an event is waited for. The run goes on. */
  async return(): Promise<IteratorResult<E, undefined>> {
    this.#open.closed = true;
    this.#open.current?.close();
    await this.#events.return();
    return { done: true, value: undefined };
  }

  /** As leaving the loop. */
  async close(): Promise<void> {
    await this.return();
  }

  /** Reads on to the end. */
  async untilDone(): Promise<this> {
    while (!(await this.next()).done);
    return this;
  }

  /** The server's id of the request that the events come from; null before the first of them. */
  get requestId(): string | null {
    return this.#reader.requestId;
  }

  get runId(): string | null {
    return this.#reader.runId;
  }

  get taskId(): string | null {
    return this.#reader.taskId;
  }

  get messageId(): string | null {
    return this.#reader.messageId;
  }

  get conversationId(): string | null {
    return this.#reader.conversationId;
  }

  /** All text that has been streamed so far. */
  get text(): string {
    return this.#reader.text;
  }

  get lastEvent(): E | null {
    return this.#reader.lastEvent as E | null;
  }

  /** How the run ended, once that was told. */
  get run(): WorkflowRun | null {
    const finished = this.#reader.finished;
    if (!finished || !isObject(finished['data'])) return null;
    const node = this.#reader.failed;
    const failed = node && finished['data']['status'] === 'failed' ? { error_node: node } : {};
    return runOf({ workflow_run_id: this.runId, task_id: this.taskId, data: finished['data'], ...failed });
  }
}

async function* eventsOf(
  source: Source,
  reader: Reader,
  open: { current: Stream | null; closed: boolean },
): AsyncGenerator<Told, void, undefined> {
  if (open.closed) return;
  let stream: Stream | null = await source.start();
  for (let fruitless = 0; ;) {
    const before = reader.told;
    let broken: ConnectionError | null = null;
    open.current = stream;
    reader.requestId = requestIdOf(stream.headers);
    try {
      if (open.closed) return;
      while (true) {
        let bytes: Uint8Array | null;
        try {
          bytes = await stream.read(reader.over ? LINGER : undefined);
        } catch (error) {
          if (open.closed) return;
          if (!(error instanceof ConnectionError)) throw error;
          broken = error;
          break;
        }
        if (bytes === null) break;
        const over = reader.over;
        const events = fed(reader, bytes);
        for (const event of events) yield event;
        if (over && !events.length) return; // pings after the end: nothing more will come
      }
    } finally {
      open.current = null;
      stream.close();
    }
    if (reader.over) return;
    reader.cut();
    fruitless = reader.told > before ? 0 : fruitless + 1;
    let ending: Told[] = [];
    try {
      if (fruitless >= TRIES) throw new ConnectionError('the stream broke again and again', { runId: reader.runId });
      if (fruitless > 1) await source.pause(fruitless - 2);
      stream = await source.resume(reader);
      if (!stream) ending = await source.outcome(reader);
    } catch (error) {
      throw error instanceof HeadraceError ? interrupted(reader, error, broken) : error;
    }
    if (!stream) {
      for (const event of ending) yield reader.synthesized(event);
      return;
    }
  }
}

function fed(reader: Reader, bytes: Uint8Array): Told[] {
  try {
    return reader.feed(bytes);
  } catch (error) {
    if (error instanceof RangeError)
      throw interrupted(reader, new HeadraceError(error.message, { cause: error }), null);
    throw error;
  }
}

function interrupted(reader: Reader, error: HeadraceError, broken: ConnectionError | null): StreamInterruptedError {
  const known = reader.runId ?? reader.messageId;
  const what = known ? `The stream of ${known} was cut` : 'The stream was cut before anything was known of its run';
  const last = reader.lastEvent ? ` after ${reader.lastEvent.event}` : '';
  return new StreamInterruptedError(`${what}${last}: ${error.message}`, {
    status: error.status,
    code: error.code,
    requestId: error.requestId,
    runId: reader.runId,
    taskId: reader.taskId,
    lastEvent: reader.lastEvent,
    text: reader.text,
    messageId: reader.messageId,
    conversationId: reader.conversationId,
    cause: broken ?? error,
  });
}
