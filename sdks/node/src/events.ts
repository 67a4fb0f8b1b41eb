/**
 * The events of streams, under the server's names. Events of other types are passed on: check `event`, or use `isEvent`
 * to narrow the type.
 */

import type { Fields } from './fields.js';
import type { FormFilledData, FormTimeoutData, HumanInputRequiredData, PauseReason } from './human-input.js';

export type { Fields } from './fields.js';

/** A run's status. Runs with one of the first three have not ended. */
export type RunStatus = 'queued' | 'running' | 'paused' | 'succeeded' | 'partial-succeeded' | 'failed' | 'stopped';

interface RunEvent<Name extends string, Data> {
  readonly event: Name;
  readonly workflow_run_id: string;
  readonly task_id: string;
  readonly data: Data;
  /** In chats. */
  readonly conversation_id?: string;
  readonly message_id?: string;
  readonly created_at?: number;
}

export interface WorkflowStartedData extends Fields {
  readonly id: string;
  readonly workflow_id: string;
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly created_at: number;
  readonly reason?: string;
}

export interface WorkflowFinishedData extends Fields {
  readonly id: string;
  readonly workflow_id: string;
  readonly status: RunStatus;
  readonly outputs: Readonly<Record<string, unknown>> | null;
  readonly error: string | null;
  readonly elapsed_time: number | null;
  readonly total_tokens: number;
  readonly total_steps: number;
  readonly created_at: number;
  readonly finished_at: number | null;
  readonly exceptions_count?: number;
}

/** `reasons` has the forms that the run waits for. */
export interface WorkflowPausedData extends Fields {
  readonly workflow_run_id: string;
  readonly paused_nodes: readonly string[];
  readonly reasons: readonly PauseReason[];
  readonly status: string;
}

export interface NodeStartedData extends Fields {
  readonly id: string;
  readonly node_id: string;
  readonly node_type: string;
  readonly title: string;
  readonly index: number;
  readonly predecessor_node_id: string | null;
  readonly created_at: number;
}

export interface NodeFinishedData extends NodeStartedData {
  readonly inputs: Readonly<Record<string, unknown>> | null;
  readonly process_data: Readonly<Record<string, unknown>> | null;
  readonly outputs: Readonly<Record<string, unknown>> | null;
  readonly status: string;
  readonly error: string | null;
  readonly elapsed_time: number;
  readonly execution_metadata: Readonly<Record<string, unknown>> | null;
  readonly finished_at: number;
}

export interface NodeRetryData extends NodeFinishedData {
  readonly retry_index: number;
}

export interface TextData extends Fields {
  readonly text: string;
  readonly from_variable_selector?: readonly string[];
}

/** A chunk of a model's reasoning, if its node separates it from the text. `is_final`: it is the last one. */
export interface ReasoningData extends Fields {
  readonly reasoning: string;
  readonly node_id: string;
  readonly is_final: boolean;
}

/** The start, a round or the end of an iteration or a loop. */
export interface RoundsData extends Fields {
  readonly id: string;
  readonly node_id: string;
  readonly node_type: string;
  readonly title: string;
  readonly index?: number;
  readonly status?: string;
  readonly error?: string | null;
}

/** `synthesized` is true for an event that was made from the run's detail, because the stream was cut. */
interface Synthesized {
  readonly synthesized?: boolean;
}

/** An error other than a failed run, or (in chats) a failed run. The stream's last event. */
export interface ErrorEvent {
  readonly event: 'error';
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly workflow_run_id?: string;
  readonly task_id?: string;
  readonly message_id?: string;
}

export type WorkflowStartedEvent = RunEvent<'workflow_started', WorkflowStartedData>;
export type WorkflowFinishedEvent = RunEvent<'workflow_finished', WorkflowFinishedData> & Synthesized;
export type WorkflowPausedEvent = RunEvent<'workflow_paused', WorkflowPausedData> & Synthesized;
export type NodeStartedEvent = RunEvent<'node_started', NodeStartedData>;
export type NodeFinishedEvent = RunEvent<'node_finished', NodeFinishedData>;
export type NodeRetryEvent = RunEvent<'node_retry', NodeRetryData>;
export type TextChunkEvent = RunEvent<'text_chunk', TextData>;
export type ReasoningChunkEvent = RunEvent<'reasoning_chunk', ReasoningData>;
export type TextReplaceEvent = RunEvent<'text_replace', TextData>;
export type IterationEvent = RunEvent<'iteration_started' | 'iteration_next' | 'iteration_completed', RoundsData>;
export type LoopEvent = RunEvent<'loop_started' | 'loop_next' | 'loop_completed', RoundsData>;
export type AgentLogEvent = RunEvent<'agent_log', Fields>;
export type HumanInputRequiredEvent = RunEvent<'human_input_required', HumanInputRequiredData>;
export type HumanInputFormFilledEvent = RunEvent<'human_input_form_filled', FormFilledData>;
export type HumanInputFormTimeoutEvent = RunEvent<'human_input_form_timeout', FormTimeoutData>;

/** An event of a workflow's stream. */
export type WorkflowEvent =
  | WorkflowStartedEvent
  | WorkflowFinishedEvent
  | WorkflowPausedEvent
  | NodeStartedEvent
  | NodeFinishedEvent
  | NodeRetryEvent
  | TextChunkEvent
  | ReasoningChunkEvent
  | TextReplaceEvent
  | IterationEvent
  | LoopEvent
  | AgentLogEvent
  | HumanInputRequiredEvent
  | HumanInputFormFilledEvent
  | HumanInputFormTimeoutEvent
  | ErrorEvent
  | UnknownEvent;

interface EventOfMessage<Name extends string> {
  readonly event: Name;
  readonly task_id: string;
  readonly id?: string;
  readonly message_id: string;
  readonly conversation_id?: string;
  readonly workflow_run_id?: string;
  readonly created_at?: number;
}

/** A chunk of the answer. */
export interface MessageEvent extends EventOfMessage<'message' | 'agent_message'> {
  readonly answer: string;
  readonly from_variable_selector?: readonly string[];
}

export interface MessageReplaceEvent extends EventOfMessage<'message_replace'> {
  readonly answer: string;
  readonly reason?: string;
}

export interface MessageEndEvent extends EventOfMessage<'message_end'>, Synthesized {
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly files?: readonly Readonly<Record<string, unknown>>[] | null;
  /** The whole answer; only if the event is synthesized. */
  readonly answer?: string;
}

export interface MessageFileEvent extends EventOfMessage<'message_file'> {
  readonly type: string;
  readonly belongs_to: string;
  readonly url: string;
}

export interface AgentThoughtEvent extends EventOfMessage<'agent_thought'> {
  readonly thought: string;
  readonly observation: string;
  readonly tool: string;
  readonly tool_input: string;
  readonly position: number;
}

/** A chunk of speech, in Base64; empty in `tts_message_end`. */
export interface TtsMessageEvent extends EventOfMessage<'tts_message' | 'tts_message_end'> {
  readonly audio: string;
}

/** An event of the stream of a chat or a completion; a chatflow's stream also has the events of its run. */
export type ChatEvent =
  | WorkflowEvent
  | MessageEvent
  | MessageReplaceEvent
  | MessageEndEvent
  | MessageFileEvent
  | AgentThoughtEvent
  | TtsMessageEvent;

/** Represents every unknown name in types, so that comparing with a known one narrows an event's type. */
declare enum Unlisted {
  Name = 'any other name',
}

/** An event that this version of the package does not know, with all its fields; `event` is its name, a string. */
export interface UnknownEvent {
  readonly event: Unlisted.Name;
  readonly [field: string]: unknown;
}

/** The known names of a union of events. */
type NamesOf<E extends { readonly event: string }> = Exclude<E['event'], Unlisted>;

/** The members of a union of events that can have this name. */
type EventNamed<E, N> = E extends { readonly event: infer Name } ? (N extends Name ? E : never) : never;

/** Whether an event has this name; narrows its type, also for unknown names. */
export function isEvent<E extends { readonly event: string }, N extends NamesOf<E>>(
  event: E,
  name: N,
): event is EventNamed<E, N>;
export function isEvent(event: { readonly event: string }, name: string): boolean;
export function isEvent(event: { readonly event: string }, name: string): boolean {
  return event.event === name;
}
