/** Parses a stream's bytes into events, and keeps what is needed to resume after a cut. No network access here. */

import { isObject } from './errors.js';
import type { ErrorNode, Interruption } from './errors.js';
import { SseParser } from './sse.js';
import type { Block } from './sse.js';

/** An event as it was received. */
export type RawEvent = Readonly<Record<string, unknown>> & { readonly event: string };

export const WORKFLOW_ENDS: ReadonlySet<string> = new Set(['workflow_finished', 'workflow_paused', 'error']);
export const RUN_ENDS: ReadonlySet<string> = new Set(['workflow_finished', 'error']);
export const CHAT_ENDS: ReadonlySet<string> = new Set(['message_end', 'workflow_paused', 'error']);

const AFTER_END: ReadonlySet<string> = new Set(['tts_message', 'tts_message_end', 'message_end']);

/**
 * Reads one stream over all its connections.
 *
 * Headrace sends every event with an `id`, because this package asks for it. A stream that is requested with the last
 * id continues with the events that follow, and repeats none.
 */
export class EventReader implements Interruption {
  /** Where the stream is resumed: the last id; null if the server sends none. */
  lastEventId: string | null = null;
  /** Whether the last event has been received. */
  ended = false;
  eventCount = 0;
  /** The server's id of the current request. */
  requestId: string | null = null;
  runId: string | null = null;
  taskId: string | null = null;
  messageId: string | null = null;
  conversationId: string | null = null;
  lastEvent: RawEvent | null = null;
  finishedEvent: RawEvent | null = null;
  /** The first node that failed without an error handler. */
  failedNode: ErrorNode | null = null;
  #texts: string[] = [];
  #parser = new SseParser();

  constructor(private readonly ends: ReadonlySet<string>) {}

  /** Whether the stream ends when the run pauses. */
  get endsAtPause(): boolean {
    return this.ends.has('workflow_paused');
  }

  /** All text streamed so far. */
  get text(): string {
    return this.#texts.join('');
  }

  /** The events that these bytes complete. RangeError if an event is too large. */
  feed(bytes: Uint8Array): RawEvent[] {
    const events: RawEvent[] = [];
    for (const block of this.#parser.feed(bytes)) this.#readBlock(block, events);
    return events;
  }

  /** Drops what was received of an event when the connection was lost. */
  discardPartial(): void {
    this.#parser = new SseParser();
  }

  /** Records an event that was made from what could be fetched after a cut. */
  addSynthesized(event: RawEvent): RawEvent {
    const synthesized = { ...event, synthesized: true };
    this.#record(synthesized);
    return synthesized;
  }

  #readBlock(block: Block, events: RawEvent[]): void {
    if (block.id !== null) this.lastEventId = block.id;
    if (block.data === null) return;
    const event = parseEvent(block);
    if (event.event === 'ping' || (this.ended && !AFTER_END.has(event.event))) return;
    this.#record(event);
    events.push(event);
  }

  #record(event: RawEvent): void {
    this.lastEvent = event;
    this.eventCount += 1;
    this.runId = toText(event['workflow_run_id']) ?? this.runId;
    this.taskId = toText(event['task_id']) ?? this.taskId;
    this.messageId = toText(event['message_id']) ?? this.messageId;
    this.conversationId = toText(event['conversation_id']) ?? this.conversationId;
    if (event.event === 'text_chunk' && isObject(event['data'])) this.#texts.push(toText(event['data']['text']) ?? '');
    else if (event.event === 'message' || event.event === 'agent_message')
      this.#texts.push(toText(event['answer']) ?? '');
    else if (event.event === 'message_replace') this.#texts = [toText(event['answer']) ?? ''];
    else if (event.event === 'workflow_finished') this.finishedEvent = event;
    else if (event.event === 'node_finished') this.failedNode ??= toFailedNode(event['data']);
    else if (event.event === 'message_end' && event['synthesized']) this.#texts = [toText(event['answer']) ?? ''];
    this.ended ||= this.ends.has(event.event);
  }
}

function toFailedNode(data: unknown): ErrorNode | null {
  if (!isObject(data) || data['status'] !== 'failed') return null;
  const node_id = toText(data['node_id']) ?? '';
  return { id: toText(data['id']), node_id, title: toText(data['title']), type: toText(data['node_type']) };
}

function toText(value: unknown): string | null {
  return typeof value === 'string' && value ? value : null;
}

function parseEvent(block: Block): RawEvent {
  const text = block.data ?? '';
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    data = text;
  }
  if (!isObject(data)) return { event: block.event ?? '', data };
  return typeof data['event'] === 'string' ? (data as RawEvent) : { ...data, event: block.event ?? '' };
}
