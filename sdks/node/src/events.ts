/**
 * Events of streams, as the server names them. An event that is not listed here passes through: tell it by its
 * `event`, with `isEvent` where the types are to follow.
 */

/** A run's status. The first three go on. */
export type RunStatus = 'queued' | 'running' | 'paused' | 'succeeded' | 'partial-succeeded' | 'failed' | 'stopped';

interface OfRun<Name extends string, Data> {
  readonly event: Name;
  readonly workflow_run_id: string;
  readonly task_id: string;
  readonly data: Data;
  /** In chats. */
  readonly conversation_id?: string;
  readonly message_id?: string;
  readonly created_at?: number;
}

export interface Fields {
  /** What this version of the package does not know is kept. */
  readonly [field: string]: unknown;
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

export interface WorkflowPausedData extends Fields {
  readonly workflow_run_id: string;
  readonly paused_nodes: readonly unknown[];
  readonly reasons: readonly Readonly<Record<string, unknown>>[];
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

/** A piece of a model's reasoning, where its node separates it from the text. `is_final`: there is no more. */
export interface ReasoningData extends Fields {
  readonly reasoning: string;
  readonly node_id: string;
  readonly is_final: boolean;
}

/** A round of an iteration or a loop, or its begin or end. */
export interface RoundsData extends Fields {
  readonly id: string;
  readonly node_id: string;
  readonly node_type: string;
  readonly title: string;
  readonly index?: number;
  readonly status?: string;
  readonly error?: string | null;
}

/** `synthesized` is true on an event that was made from the run's detail, because the stream was cut off. */
interface Synthesized {
  readonly synthesized?: boolean;
}

/** The run went wrong in a way that is not a failed run, or (in chats) it failed. The stream's last event. */
export interface ErrorEvent {
  readonly event: 'error';
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly workflow_run_id?: string;
  readonly task_id?: string;
  readonly message_id?: string;
}

export type WorkflowStartedEvent = OfRun<'workflow_started', WorkflowStartedData>;
export type WorkflowFinishedEvent = OfRun<'workflow_finished', WorkflowFinishedData> & Synthesized;
export type WorkflowPausedEvent = OfRun<'workflow_paused', WorkflowPausedData>;
export type NodeStartedEvent = OfRun<'node_started', NodeStartedData>;
export type NodeFinishedEvent = OfRun<'node_finished', NodeFinishedData>;
export type NodeRetryEvent = OfRun<'node_retry', NodeRetryData>;
export type TextChunkEvent = OfRun<'text_chunk', TextData>;
export type ReasoningChunkEvent = OfRun<'reasoning_chunk', ReasoningData>;
export type TextReplaceEvent = OfRun<'text_replace', TextData>;
export type IterationEvent = OfRun<'iteration_started' | 'iteration_next' | 'iteration_completed', RoundsData>;
export type LoopEvent = OfRun<'loop_started' | 'loop_next' | 'loop_completed', RoundsData>;
export type AgentLogEvent = OfRun<'agent_log', Fields>;
export type HumanInputEvent = OfRun<
  'human_input_required' | 'human_input_form_filled' | 'human_input_form_timeout',
  Fields
>;

/** What a workflow's stream tells. */
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
  | HumanInputEvent
  | ErrorEvent
  | UnknownEvent;

interface OfMessage<Name extends string> {
  readonly event: Name;
  readonly task_id: string;
  readonly id?: string;
  readonly message_id: string;
  readonly conversation_id?: string;
  readonly workflow_run_id?: string;
  readonly created_at?: number;
}

/** A piece of the answer. */
export interface MessageEvent extends OfMessage<'message' | 'agent_message'> {
  readonly answer: string;
  readonly from_variable_selector?: readonly string[];
}

export interface MessageReplaceEvent extends OfMessage<'message_replace'> {
  readonly answer: string;
  readonly reason?: string;
}

export interface MessageEndEvent extends OfMessage<'message_end'>, Synthesized {
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly files?: readonly Readonly<Record<string, unknown>>[] | null;
  /** The whole answer, on a synthesized event only. */
  readonly answer?: string;
}

export interface MessageFileEvent extends OfMessage<'message_file'> {
  readonly type: string;
  readonly belongs_to: string;
  readonly url: string;
}

export interface AgentThoughtEvent extends OfMessage<'agent_thought'> {
  readonly thought: string;
  readonly observation: string;
  readonly tool: string;
  readonly tool_input: string;
  readonly position: number;
}

/** A piece of speech, in Base64; empty in `tts_message_end`. */
export interface TtsMessageEvent extends OfMessage<'tts_message' | 'tts_message_end'> {
  readonly audio: string;
}

/** What the stream of a chat or a completion tells; a chatflow's also tells of its run. */
export type ChatEvent =
  | WorkflowEvent
  | MessageEvent
  | MessageReplaceEvent
  | MessageEndEvent
  | MessageFileEvent
  | AgentThoughtEvent
  | TtsMessageEvent;

/** Stands in types for every name that is not listed, so that comparing with a listed one narrows an event's type. */
declare enum Unlisted {
  Name = 'any other name',
}

/** An event that this version of the package does not know, with all its fields; `event` is its name, a string. */
export interface UnknownEvent {
  readonly event: Unlisted.Name;
  readonly [field: string]: unknown;
}

/** The names that the types of a union of events have. */
type Named<E extends { readonly event: string }> = Exclude<E['event'], Unlisted>;

/** Those of a union of events that may have this name. */
type Of<E, N> = E extends { readonly event: infer Name } ? (N extends Name ? E : never) : never;

/** Whether an event is of this name; narrows its type, also of events that are not listed. */
export function isEvent<E extends { readonly event: string }, N extends Named<E>>(event: E, name: N): event is Of<E, N>;
export function isEvent(event: { readonly event: string }, name: string): boolean;
export function isEvent(event: { readonly event: string }, name: string): boolean {
  return event.event === name;
}
