import type { ResponseStream } from './http-request.js';
import { ConnectionError, HeadraceError, StreamInterruptedError, isObject, getRequestId } from './errors.js';
import type { WorkflowRun } from './models.js';
import { normalizeRun } from './models.js';
import type { EventReader, RawEvent } from './event-reader.js';

/** How a stream starts, and how it continues after a cut. */
export interface Source {
  start(): Promise<ResponseStream>;
  /** The stream after the last event; null if the server cannot resume. */
  resume(reader: EventReader): Promise<ResponseStream | null>;
  /** The last events of the stream, made from what can be fetched now. */
  fetchOutcome(reader: EventReader): Promise<RawEvent[]>;
  /** Waits before a connection that follows `attempt` + 1 connections without an event. */
  pause(attempt: number): Promise<void>;
}

// seconds to wait for the server to close the stream after the last event, so that the connection can be reused
const LINGER = 1;
const MAX_EMPTY_CONNECTIONS = 4; // in a row

/**
 * The events of a run as they arrive, each once: `for await (const event of stream)`.
 *
 * The request is sent when the first event is requested. After a lost connection the stream is resumed if the server
 * supports that; otherwise the run's outcome is fetched and returned as an event (`synthesized`). StreamInterruptedError
 * if that fails, too. Leaving the loop closes the connection; the run continues.
 */
export class EventStream<E> implements AsyncIterableIterator<E> {
  readonly #reader: EventReader;
  readonly #events: AsyncGenerator<RawEvent, void, undefined>;
  readonly #connection: { current: ResponseStream | null; closed: boolean };

  constructor(source: Source, reader: EventReader) {
    this.#reader = reader;
    this.#connection = { current: null, closed: false };
    this.#events = iterateEvents(source, reader, this.#connection);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<E, undefined>> {
    return this.#events.next() as Promise<IteratorResult<E, undefined>>;
  }

  /** Closes the connection, also while the next event is awaited. The run continues. */
  async return(): Promise<IteratorResult<E, undefined>> {
    this.#connection.closed = true;
    this.#connection.current?.close();
    await this.#events.return();
    return { done: true, value: undefined };
  }

  /** Closes the connection, as leaving the loop does. */
  async close(): Promise<void> {
    await this.return();
  }

  /** Reads the stream to its end. */
  async untilDone(): Promise<this> {
    while (!(await this.next()).done);
    return this;
  }

  /** The server's id of the current request; null before the first event. */
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

  /** All text streamed so far. */
  get text(): string {
    return this.#reader.text;
  }

  get lastEvent(): E | null {
    return this.#reader.lastEvent as E | null;
  }

  /** The run, once it has ended. */
  get run(): WorkflowRun | null {
    const data = this.#reader.finishedEvent?.['data'];
    if (!isObject(data)) return null;
    const node = this.#reader.failedNode;
    const errorNode = node && data['status'] === 'failed' ? { error_node: node } : {};
    return normalizeRun({ workflow_run_id: this.runId, task_id: this.taskId, data, ...errorNode });
  }
}

async function* iterateEvents(
  source: Source,
  reader: EventReader,
  connection: { current: ResponseStream | null; closed: boolean },
): AsyncGenerator<RawEvent, void, undefined> {
  if (connection.closed) return;
  let stream: ResponseStream | null = await source.start();
  for (let emptyConnections = 0; ;) {
    const countBefore = reader.eventCount;
    let failure: ConnectionError | null = null;
    connection.current = stream;
    reader.requestId = getRequestId(stream.headers);
    try {
      if (connection.closed) return;
      while (true) {
        let bytes: Uint8Array | null;
        try {
          bytes = await stream.read(reader.ended ? LINGER : undefined);
        } catch (error) {
          if (connection.closed) return;
          if (!(error instanceof ConnectionError)) throw error;
          failure = error;
          break;
        }
        if (bytes === null) break;
        const ended = reader.ended;
        const events = feed(reader, bytes);
        for (const event of events) yield event;
        if (ended && !events.length) return; // only pings follow the last event
      }
    } finally {
      connection.current = null;
      stream.close();
    }
    if (reader.ended) return;
    reader.discardPartial();
    emptyConnections = reader.eventCount > countBefore ? 0 : emptyConnections + 1;
    let lastEvents: RawEvent[] = [];
    try {
      if (emptyConnections >= MAX_EMPTY_CONNECTIONS)
        throw new ConnectionError('the stream broke again and again', { runId: reader.runId });
      if (emptyConnections > 1) await source.pause(emptyConnections - 2);
      stream = await source.resume(reader);
      if (!stream) lastEvents = await source.fetchOutcome(reader);
    } catch (error) {
      throw error instanceof HeadraceError ? interruptedError(reader, error, failure) : error;
    }
    if (!stream) {
      for (const event of lastEvents) yield reader.addSynthesized(event);
      return;
    }
  }
}

function feed(reader: EventReader, bytes: Uint8Array): RawEvent[] {
  try {
    return reader.feed(bytes);
  } catch (error) {
    if (error instanceof RangeError)
      throw interruptedError(reader, new HeadraceError(error.message, { cause: error }), null);
    throw error;
  }
}

function interruptedError(
  reader: EventReader,
  error: HeadraceError,
  failure: ConnectionError | null,
): StreamInterruptedError {
  const name = reader.runId ?? reader.messageId;
  const what = name ? `The stream of ${name} was cut` : 'The stream was cut before anything was known about its run';
  const where = reader.lastEvent ? ` after ${reader.lastEvent.event}` : '';
  return new StreamInterruptedError(`${what}${where}: ${error.message}`, {
    status: error.status,
    code: error.code,
    requestId: error.requestId,
    runId: reader.runId,
    taskId: reader.taskId,
    lastEvent: reader.lastEvent,
    text: reader.text,
    messageId: reader.messageId,
    conversationId: reader.conversationId,
    cause: failure ?? error,
  });
}
