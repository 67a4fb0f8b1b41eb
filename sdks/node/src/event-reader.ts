/** From a stream's bytes to its events, and what must be known to go on after a cut. No network here. */

import { isObject } from './errors.js';
import type { ErrorNode, Interruption } from './errors.js';
import { SseParser } from './sse.js';
import type { Block } from './sse.js';

/** An event as it came. */
export type Told = Readonly<Record<string, unknown>> & { readonly event: string };

export const WORKFLOW_ENDS: ReadonlySet<string> = new Set(['workflow_finished', 'workflow_paused', 'error']);
export const CHAT_ENDS: ReadonlySet<string> = new Set(['message_end', 'workflow_paused', 'error']);

const AFTER_END: ReadonlySet<string> = new Set(['tts_message', 'tts_message_end']);

/**
 * Reads one stream over all its connections.
 *
 * Headrace gives every event an `id`, because this package asks for it; a stream that is asked for with the id of the
 * last event goes on with all that follows, and nothing twice.
 */
export class Reader implements Interruption {
  /** Where the stream is to be resumed: the last id; null where the server sends none. */
  place: string | null = null;
  /** The last event has been told. */
  over = false;
  /** How many events were told. */
  told = 0;
  /** The server's id of the request that is read. */
  requestId: string | null = null;
  runId: string | null = null;
  taskId: string | null = null;
  messageId: string | null = null;
  conversationId: string | null = null;
  lastEvent: Told | null = null;
  finished: Told | null = null;
  /** The node that failed first, of those whose failure nothing handles. */
  failed: ErrorNode | null = null;
  #texts: string[] = [];
  #parser = new SseParser();

  constructor(private readonly ends: ReadonlySet<string>) {}

  /** All text so far. */
  get text(): string {
    return this.#texts.join('');
  }

  /** The events that can be told now. RangeError where an event is too large to be one. */
  feed(bytes: Uint8Array): Told[] {
    const events: Told[] = [];
    for (const block of this.#parser.feed(bytes)) this.#take(block, events);
    return events;
  }

  /** The connection is lost, and with it the event that was under way. */
  cut(): void {
    this.#parser = new SseParser();
  }

  /** Takes in an event that was made from what could be asked after a cut. */
  synthesized(event: Told): Told {
    const told = { ...event, synthesized: true };
    this.#note(told);
    return told;
  }

  #take(block: Block, events: Told[]): void {
    if (block.id !== null) this.place = block.id;
    if (block.data === null) return;
    const told = toldBy(block);
    if (told.event === 'ping' || (this.over && !AFTER_END.has(told.event))) return;
    this.#note(told);
    events.push(told);
  }

  #note(told: Told): void {
    this.lastEvent = told;
    this.told += 1;
    this.runId = textOf(told['workflow_run_id']) ?? this.runId;
    this.taskId = textOf(told['task_id']) ?? this.taskId;
    this.messageId = textOf(told['message_id']) ?? this.messageId;
    this.conversationId = textOf(told['conversation_id']) ?? this.conversationId;
    if (told.event === 'text_chunk' && isObject(told['data'])) this.#texts.push(textOf(told['data']['text']) ?? '');
    else if (told.event === 'message' || told.event === 'agent_message') this.#texts.push(textOf(told['answer']) ?? '');
    else if (told.event === 'message_replace') this.#texts = [textOf(told['answer']) ?? ''];
    else if (told.event === 'workflow_finished') this.finished = told;
    else if (told.event === 'node_finished') this.failed ??= failedNode(told['data']);
    else if (told.event === 'message_end' && told['synthesized']) this.#texts = [textOf(told['answer']) ?? ''];
    this.over ||= this.ends.has(told.event);
  }
}

function failedNode(data: unknown): ErrorNode | null {
  if (!isObject(data) || data['status'] !== 'failed') return null;
  const node_id = textOf(data['node_id']) ?? '';
  return { id: textOf(data['id']), node_id, title: textOf(data['title']), type: textOf(data['node_type']) };
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value ? value : null;
}

function toldBy(block: Block): Told {
  const data = block.data ?? '';
  let told: unknown;
  try {
    told = JSON.parse(data);
  } catch {
    told = data;
  }
  if (!isObject(told)) return { event: block.event ?? '', data: told };
  return typeof told['event'] === 'string' ? (told as Told) : { ...told, event: block.event ?? '' };
}
