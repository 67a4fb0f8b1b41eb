/** The models of responses. Fields keep the server's names; unknown fields are kept, too. */

import { RunFailedError, isObject } from './errors.js';
import type { ErrorNode } from './errors.js';
import type { Fields, RunStatus } from './events.js';
import type { Values } from './fields.js';
import { copyResponse } from './responses.js';

export type { Values } from './fields.js';

/** A run that has been created. */
export interface CreatedRun extends Fields {
  readonly workflow_run_id: string;
  readonly task_id: string;
  readonly status: RunStatus;
  readonly created_at?: number;
  /** For a chat message (Headrace). */
  readonly conversation_id?: string | null;
  readonly message_id?: string;
}

export interface Usage extends Fields {
  readonly prompt_tokens?: number;
  readonly completion_tokens?: number;
  readonly total_tokens?: number;
  readonly total_price?: string | number | null;
  readonly currency?: string | null;
}

/** The current state of a run. `..._at` are whole seconds since the epoch, `..._at_ms` milliseconds (Headrace). */
export interface WorkflowRun extends Fields {
  readonly id: string;
  readonly workflow_run_id: string;
  readonly status: RunStatus;
  readonly workflow_id?: string;
  readonly task_id?: string;
  readonly inputs?: Values | null;
  /** Null until the run has ended, and if a failed run has none. */
  readonly outputs?: Values | null;
  readonly error?: string | null;
  /** The node whose failure ended the run (Headrace). */
  readonly error_node?: ErrorNode | null;
  readonly usage?: Usage | null;
  readonly total_tokens?: number;
  readonly total_steps?: number;
  readonly exceptions_count?: number;
  readonly created_at?: number;
  readonly started_at?: number | null;
  readonly finished_at?: number | null;
  readonly created_at_ms?: number;
  readonly started_at_ms?: number | null;
  readonly finished_at_ms?: number | null;
  readonly elapsed_time?: number | null;
  /** For a run that answers a chat message (Headrace): the message, and the answer so far. */
  readonly query?: string | null;
  readonly answer?: string;
  readonly conversation_id?: string | null;
  readonly message_id?: string;
  readonly app_id?: string;
  readonly user?: string;
  readonly source?: string;
  readonly retry_of?: string | null;
  readonly callback_url?: string | null;
}

/** A run that has ended; `data` has its fields as Dify sends them. */
export interface FinishedRun extends WorkflowRun {
  readonly task_id: string;
  readonly data: Values;
}

export interface NodeExecution extends Fields {
  readonly id: string;
  readonly node_id: string;
  readonly node_type: string;
  readonly title: string;
  readonly index: number;
  readonly status: string;
  readonly inputs: Values | null;
  readonly outputs: Values | null;
  readonly error: string | null;
  readonly started_at: number;
  readonly finished_at: number | null;
  readonly started_at_ms?: number;
  readonly finished_at_ms?: number | null;
  readonly elapsed_time: number | null;
  readonly predecessor_node_id?: string | null;
  readonly iteration_id?: string | null;
  readonly iteration_index?: number | null;
  readonly loop_id?: string | null;
  readonly loop_index?: number | null;
  readonly process_data?: Values | null;
  readonly error_type?: string | null;
  readonly attempts?: readonly Values[];
  readonly reused?: boolean;
  readonly usage?: Usage | null;
}

/** The run of an entry of the log. */
export interface LoggedRun extends Fields {
  readonly id: string;
  readonly status: RunStatus;
  readonly error: string | null;
  readonly elapsed_time: number;
  readonly total_tokens: number;
  readonly total_steps: number;
  readonly created_at: number;
  readonly finished_at: number | null;
  readonly version?: string | null;
  readonly triggered_from?: string;
  readonly exceptions_count?: number;
}

export interface WorkflowLog extends Fields {
  readonly id: string;
  readonly workflow_run: LoggedRun;
  readonly created_from: string;
  readonly created_by_role: string;
  readonly created_at: number;
  readonly created_by_end_user?: Values | null;
}

export interface Page<T> extends Fields {
  readonly data: readonly T[];
  readonly limit?: number;
  readonly has_more?: boolean;
  readonly page?: number;
  readonly total?: number;
}

/** `result` is `success`. */
export interface Done extends Fields {
  readonly result: string;
}

export interface AppInfo extends Fields {
  readonly name: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly mode: string;
  readonly author_name?: string;
}

/** An app's inputs and features. `user_input_form`: items of `{[type]: {variable, label, required, ...}}`. */
export interface AppParameters extends Fields {
  readonly user_input_form: readonly Readonly<Record<string, Values>>[];
  readonly file_upload?: Values;
  readonly opening_statement?: string | null;
  readonly suggested_questions?: readonly string[];
  readonly system_parameters?: Readonly<Record<string, number>>;
  readonly suggested_questions_after_answer?: Values;
  readonly speech_to_text?: Values;
  readonly text_to_speech?: Values;
  readonly retriever_resource?: Values;
  readonly annotation_reply?: Values;
  readonly more_like_this?: Values;
  readonly sensitive_word_avoidance?: Values;
}

export interface AppMeta extends Fields {
  readonly tool_icons: Values;
}

export interface AppSite extends Fields {
  readonly title: string;
  readonly description?: string | null;
  readonly icon_type?: string | null;
  readonly icon?: string | null;
  readonly chat_color_theme_inverted?: boolean;
  readonly icon_background?: string | null;
  readonly custom_disclaimer?: string;
  readonly default_language?: string;
  readonly show_workflow_steps?: boolean;
  readonly use_icon_as_answer_icon?: boolean;
  readonly icon_url?: string | null;
}

/** A file on the server; can be used as a value in `inputs` and `files`. */
export interface UploadedFile extends Fields {
  readonly id: string;
  readonly name: string;
  readonly size: number;
  readonly extension: string;
  readonly mime_type: string;
  readonly created_by: string;
  readonly created_at: number;
  readonly source_url?: string | null;
}

/** The complete answer of a chat or a completion. */
export interface Message extends Fields {
  readonly message_id: string;
  readonly answer: string;
  readonly task_id: string;
  readonly conversation_id?: string;
  readonly mode?: string;
  readonly metadata?: Values;
  readonly created_at?: number;
  readonly id?: string;
  readonly event?: string;
  readonly workflow_run_id?: string;
  readonly data?: Values;
}

/** A query and its answer in a conversation's history. */
export interface PastMessage extends Fields {
  readonly id: string;
  readonly conversation_id: string;
  readonly inputs: Values;
  readonly query: string;
  readonly answer: string;
  readonly status?: string;
  readonly error?: string | null;
  readonly feedback?: Values | null;
  readonly created_at: number;
  readonly parent_message_id?: string;
  readonly retriever_resources?: readonly Values[];
  readonly message_files?: readonly Values[];
  readonly agent_thoughts?: readonly Values[];
  readonly message_tokens?: number;
  readonly answer_tokens?: number;
  readonly provider_response_latency?: number;
  readonly total_price?: string | number | null;
  readonly currency?: string;
  readonly total_tokens?: number;
}

export interface Conversation extends Fields {
  readonly id: string;
  readonly name: string;
  readonly inputs: Values;
  readonly status: string;
  readonly introduction?: string | null;
  readonly created_at: number;
  readonly updated_at?: number;
}

export interface ConversationVariable extends Fields {
  readonly id: string;
  readonly name: string;
  readonly value_type: string;
  readonly value: unknown;
  readonly description?: string;
  readonly created_at?: number;
  readonly updated_at?: number;
}

export interface Feedback extends Fields {
  readonly id: string;
  readonly message_id: string;
  readonly rating: string | null;
  readonly content?: string | null;
  readonly app_id?: string;
  readonly conversation_id?: string;
  readonly from_source?: string;
  readonly from_end_user_id?: string;
  readonly created_at?: string | number;
  readonly updated_at?: string | number;
}

export interface SuggestedQuestions extends Fields {
  readonly result: string;
  readonly data: readonly string[];
}

export interface Transcript extends Fields {
  readonly text: string;
}

/** `status` is `ok` or `ready` if `healthy` is true. */
export interface Health extends Fields {
  readonly status: string;
  readonly healthy: boolean;
}

const FINAL: ReadonlySet<string> = new Set(['succeeded', 'failed', 'stopped', 'partial-succeeded']);

/** Whether a status is a run's last. */
export function isFinal(status: string | null | undefined): boolean {
  return FINAL.has(status ?? '');
}

/** A run of any server in one form. Dify sends inputs and outputs as JSON within JSON. */
export function normalizeRun(payload: Values): WorkflowRun {
  const data = isObject(payload['data']) ? payload['data'] : {};
  const flat: Record<string, unknown> = { ...data, ...payload };
  for (const name of ['inputs', 'outputs']) if (name in flat) flat[name] = parseJson(flat[name]);
  const id = flat['workflow_run_id'] ?? flat['id'];
  return copyResponse(payload, { ...flat, id, workflow_run_id: id } as WorkflowRun);
}

function parseJson(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  try {
    return JSON.parse(value);
  } catch {
    return value; // not JSON
  }
}

/** The run itself. RunFailedError if it failed or was stopped. */
export function raiseForStatus<R extends WorkflowRun>(run: R): R {
  if (run.status !== 'failed' && run.status !== 'stopped') return run;
  const { error_node: node } = run;
  const prefix = node ? `${node.title || node.node_id}: ` : '';
  throw new RunFailedError(`${prefix}${run.error || `The run ${run.status}.`}`, {
    code: run.status,
    runId: run.workflow_run_id,
    taskId: run.task_id,
    node,
    run,
  });
}
