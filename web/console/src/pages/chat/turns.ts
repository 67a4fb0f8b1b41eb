/** A turn of a conversation: a message and its answer, as the API lists it and as the stream of its run adds to it. */

import type { State } from '@ui/states';
import { stateOf, type LogEntry, type Run } from '../../model';
import type { Uploaded } from '../app/values';

export type Rating = 'like' | 'dislike';

/** A round of an agent; its tool's input and result are JSON. */
export interface Thought {
  id: string;
  position: number;
  thought: string;
  tool: string;
  tool_input: string;
  observation: string;
}

export interface Source {
  position: number;
  document_name?: string | null;
  dataset_name?: string | null;
  content?: string | null;
}

export interface TurnFile {
  name: string;
  type: string;
  url: string | null;
}

export interface Turn {
  id: string | null; // of the message and of its run; null until the server has it
  query: string;
  inputs: Record<string, unknown>;
  files: TurnFile[];
  answer: string;
  answerFiles: TurnFile[];
  thoughts: Thought[];
  logs: LogEntry[];
  sources: Source[];
  state: State;
  step: string | null; // the one that goes on
  error: string;
  rating: Rating | null;
  tokens: number;
  price: string | null;
  currency: string | null;
  seconds: number | null;
}

export interface PastMessage {
  id: string;
  query: string;
  inputs: Record<string, unknown>;
  answer: string;
  message_files: { filename: string; type: string; url: string | null; belongs_to: 'user' | 'assistant' }[];
  agent_thoughts: Thought[];
  retriever_resources: Source[];
  feedback: { rating: Rating } | null;
  status: 'normal' | 'paused' | 'error';
  error: string | null;
  total_tokens: number;
  total_price: string | null;
  currency: string | null;
  provider_response_latency: number;
}

export function newTurn(query: string, inputs: Record<string, unknown>, files: Uploaded[]): Turn {
  return {
    id: null,
    query,
    inputs,
    files: files.map(({ name, type }) => ({ name, type, url: null })),
    answer: '',
    answerFiles: [],
    thoughts: [],
    logs: [],
    sources: [],
    state: 'running',
    step: null,
    error: '',
    rating: null,
    tokens: 0,
    price: null,
    currency: null,
    seconds: null,
  };
}

const STATES: Record<PastMessage['status'], State> = { normal: 'succeeded', paused: 'waiting', error: 'failed' };

export function pastTurn(message: PastMessage): Turn {
  const files = (owner: 'user' | 'assistant') =>
    message.message_files
      .filter((file) => file.belongs_to === owner)
      .map(({ filename, type, url }) => ({ name: filename || type, type, url }));
  return {
    ...newTurn(message.query, resent(message.inputs) as Record<string, unknown>, []),
    id: message.id,
    files: files('user'),
    answer: message.answer,
    answerFiles: files('assistant'),
    thoughts: message.agent_thoughts,
    sources: message.retriever_resources,
    state: STATES[message.status],
    error: message.error ?? '',
    rating: message.feedback?.rating ?? null,
    tokens: message.total_tokens,
    price: message.total_price,
    currency: message.currency,
    seconds: message.provider_response_latency || null,
  };
}

/** Inputs as a request has them: a file that was uploaded is named by its id alone. */
function resent(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(resent);
  if (typeof value !== 'object' || value === null) return value;
  const { related_id, type, transfer_method } = value as Record<string, unknown>;
  if (transfer_method === 'local_file' && related_id) return { type, transfer_method, upload_file_id: related_id };
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, resent(item)]));
}

export const goesOn = (turn: Turn | undefined): boolean =>
  turn !== undefined && ['queued', 'running', 'waiting'].includes(turn.state);

/** What the run says of the turn: more than the list of messages, and as it is now. */
export function settle(turn: Turn, run: Run): void {
  turn.state = stateOf(run.status);
  turn.step = null;
  turn.answer = run.answer || turn.answer;
  turn.error = run.error ? lastLine(run.error) : '';
  turn.tokens = run.total_tokens;
  turn.price = run.usage.total_price;
  turn.currency = run.usage.currency;
  turn.seconds = run.elapsed_time;
}

const lastLine = (text: string): string => text.trimEnd().split('\n').pop()!;

export interface ChatEvent extends Partial<Thought> {
  event: string;
  answer?: string;
  message?: string;
  type?: string;
  url?: string | null;
  metadata?: { retriever_resources?: Source[] };
  data?: { title?: string; status?: string; iteration_id?: string | null; loop_id?: string | null };
}

/** Adds an event to the turn. True for the last one. */
export function apply(turn: Turn, event: ChatEvent): boolean {
  if (turn.state === 'queued') turn.state = 'running';
  switch (event.event) {
    case 'message':
    case 'agent_message':
      turn.answer += event.answer ?? '';
      break;
    case 'message_replace':
      turn.answer = event.answer ?? '';
      break;
    case 'message_file':
      turn.answerFiles.push({ name: event.type ?? 'file', type: event.type ?? 'file', url: event.url ?? null });
      break;
    case 'agent_thought':
      turn.thoughts = changed(turn.thoughts, event as ChatEvent & Thought);
      break;
    case 'agent_log':
      turn.logs = changed(turn.logs, event.data as unknown as LogEntry);
      break;
    case 'node_started':
      if (!event.data?.iteration_id && !event.data?.loop_id) turn.step = event.data?.title ?? null;
      break;
    case 'workflow_started':
      turn.state = 'running';
      break;
    case 'workflow_paused':
      turn.state = 'waiting';
      break;
    case 'workflow_finished':
      turn.state = (event.data?.status ?? 'succeeded') as State;
      break;
    case 'message_end':
      turn.sources = event.metadata?.retriever_resources ?? [];
      if (goesOn(turn)) turn.state = 'succeeded';
      return true;
    case 'error':
      turn.state = 'failed';
      turn.error = event.message ?? '';
      return true;
  }
  return false;
}

/** Entries come when they begin, and again when they have ended. */
function changed<T extends { id: string }>(entries: T[], entry: T): T[] {
  const at = entries.findIndex((item) => item.id === entry.id);
  return at < 0 ? [...entries, entry] : entries.with(at, entry);
}

/** Models that think put it into their text between <think> and </think>. */
export function thinking(text: string): { thought: string; answer: string } {
  const thoughts: string[] = [];
  const answer = text.replace(/<think>([\s\S]*?)(?:<\/think>|$)/g, (_, thought: string) => {
    thoughts.push(thought.trim());
    return '';
  });
  return { thought: thoughts.join('\n\n').trim(), answer: answer.trimStart() };
}
