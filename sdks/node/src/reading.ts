/** From a stream's bytes to its events, and what must be known to go on after a cut. No network here. */

import { isObject } from './errors.js';
import type { Interruption } from './errors.js';
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
 * Headrace follows every event with its `id`, in a block of its own; whoever comes back with it is told all that
 * follows, and nothing twice. So once a server is known to send ids, an event is held until its id is there (both come
 * in one piece): what was told is then always what the id stands for.
 */
export class Reader implements Interruption {
  /** Where the stream is to be resumed: the last id. */
  place: string | null = null;
  /** The last event has been told. */
  over = false;
  /** How many events were told. */
  told = 0;
  runId: string | null = null;
  taskId: string | null = null;
  messageId: string | null = null;
  conversationId: string | null = null;
  lastEvent: Told | null = null;
  finished: Told | null = null;
  #texts: string[] = [];
  #parser = new SseParser();
  #held: Told | null = null;
  #unplaced: Told[] = []; // told since the last id: the server may tell them again
  #again: Told[] = [];

  constructor(
    private readonly ends: ReadonlySet<string>,
    /** The server is known to send ids. */
    public places = false,
  ) {}

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

  /** The connection has ended in order: what was held is told, too. */
  end(): Told[] {
    const events: Told[] = [];
    this.#release(events);
    return events;
  }

  /** The connection is lost: what was held will come again. */
  cut(): void {
    this.#parser = new SseParser();
    this.#held = null;
    this.#again = this.#unplaced;
    this.#unplaced = [];
  }

  /** Takes in an event that was made from what could be asked after a cut. */
  synthesized(event: Told): Told {
    const told = { ...event, synthesized: true };
    this.#note(told);
    return told;
  }

  #take(block: Block, events: Told[]): void {
    if (block.data === null) {
      if (block.id !== null) this.places = true;
      this.#release(events);
      if (block.id !== null) this.#placed(block.id);
      return;
    }
    const told = toldBy(block);
    if (told.event === 'ping') return;
    this.#release(events);
    const known = this.#again.shift();
    if (known && JSON.stringify(known) === JSON.stringify(told)) {
      this.#unplaced.push(told);
      if (block.id !== null) this.#placed(block.id);
      return;
    }
    this.#again = [];
    this.#held = told;
    if (block.id !== null) {
      this.places = true;
      this.#release(events);
      this.#placed(block.id);
    } else if (!this.places || this.ends.has(told.event)) this.#release(events);
  }

  #placed(id: string): void {
    this.place = id;
    this.#unplaced = [];
  }

  #release(events: Told[]): void {
    const told = this.#held;
    this.#held = null;
    if (told === null || (this.over && !AFTER_END.has(told.event))) return;
    this.#note(told);
    this.#unplaced = this.places ? [...this.#unplaced, told] : [told];
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
    else if (told.event === 'message_end' && told['synthesized']) this.#texts = [textOf(told['answer']) ?? ''];
    this.over ||= this.ends.has(told.event);
  }
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
