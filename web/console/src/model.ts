/** What the API returns, as far as the pages use it. */

import type { State } from '@ui/states';

export type RunStatus = 'queued' | 'running' | 'paused' | 'succeeded' | 'partial-succeeded' | 'failed' | 'stopped';

export const stateOf = (status: RunStatus): State => (status === 'paused' ? 'waiting' : status);
export const hasEnded = (status: RunStatus): boolean => !['queued', 'running', 'paused'].includes(status);

export type AppMode = 'workflow' | 'advanced-chat' | 'chat' | 'agent-chat' | 'completion';

export interface App {
  id: string;
  name: string;
  mode: AppMode;
  icon: string | null;
  icon_type: string | null;
  description: string;
  version: AppVersion;
  last_runs: { id: string; status: RunStatus; elapsed_time: number | null; created_at: number }[];
  last_error: string | null;
  lacks: { kind: string; name: string; message: string }[];
}

export interface AppVersion {
  id: string;
  number: number;
}

export interface Page<T> {
  data: T[];
  next_cursor: string | null;
}

export interface RunLine {
  id: string;
  app_id: string;
  app_name?: string;
  version_number?: number | null;
  workflow_id: string;
  status: RunStatus;
  error: string | null;
  error_node_title?: string | null;
  input?: string | null;
  total_tokens: number;
  total_steps: number;
  total_price?: string | null;
  currency?: string | null;
  created_at: number;
  created_at_ms: number;
  finished_at_ms: number | null;
  elapsed_time: number | null;
  user: string;
  source: string;
}

/** A form that a run waits for. It has no token if it is delivered by e-mail only. */
export interface WaitingForm {
  id: string;
  workflow_run_id: string;
  app_name: string;
  node_id: string;
  node_title: string;
  form_token: string | null;
  created_at: number;
  expires_at: number;
}

/** The page on which a form is answered. */
export const formAddress = (token: string): string => `/form/${encodeURIComponent(token)}`;

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  total_price: string | null;
  currency: string | null;
}

export interface Run extends RunLine {
  error_node: { node_id: string; title: string } | null;
  task_id: string;
  inputs: Record<string, unknown>;
  outputs: Record<string, unknown> | null;
  usage: Usage;
  started_at_ms: number | null;
  retry_of: string | null;
  replay_of?: string | null;
  query?: string | null;
  answer?: string;
  queue_time?: number | null;
  first_token?: number | null;
  key?: { id: string; prefix: string | null; name: string } | null;
}

/** A node is paused while it waits for a person. */
export type ExecutionStatus = 'running' | 'paused' | 'succeeded' | 'failed' | 'exception' | 'stopped';

export const isOpen = (status: ExecutionStatus): boolean => status === 'running' || status === 'paused';

export interface Attempt {
  attempt: number;
  error: string;
  error_type: string;
  finished_at_ms: number;
}

export interface LogEntry {
  id: string;
  label: string;
  parent_id: string | null;
  status: string;
  error: string | null;
  data: Record<string, unknown>;
  metadata: { elapsed_time?: number; total_tokens?: number; started_at?: number } | null;
}

export interface Execution {
  id: string;
  node_id: string;
  node_type: string;
  title: string;
  predecessor_node_id: string | null;
  iteration_id: string | null;
  iteration_index: number | null;
  loop_id: string | null;
  loop_index: number | null;
  status: ExecutionStatus;
  inputs: Record<string, unknown> | null;
  process_data: Record<string, unknown> | null;
  outputs: Record<string, unknown> | null;
  error: string | null;
  error_type: string | null;
  attempts: Attempt[];
  reused: boolean;
  usage: Usage | null;
  started_at_ms: number;
  finished_at_ms: number | null;
  elapsed_time: number | null;
  first_token?: number | null;
  agent_log?: LogEntry[];
  rounds?: { count: number; failed: number[]; durations: (number | null)[] } | null;
}

export interface GraphNode {
  id: string;
  type: string;
  title: string;
  parent_id: string | null;
  x: number | null;
  y: number | null;
  width: number | null;
  height: number | null;
  text?: string;
  model?: { provider: string; name: string };
}

export interface GraphEdge {
  id: string;
  source: string;
  target: string;
  source_handle: string;
}

export interface Graph {
  version_id: string;
  nodes: GraphNode[];
  edges: GraphEdge[];
}

export interface FormInput {
  name: string;
  label: string;
  type: string;
  required: boolean;
  default?: unknown;
  max_length?: number | null;
  options?: string[];
  hint?: string;
  file?: { types: string[]; extensions: string[]; methods: string[]; max: number | null } | null;
}

export interface AppForm {
  mode: AppMode;
  inputs: FormInput[];
  opening_statement: string;
  suggested_questions: string[];
  features: {
    file_upload: FileUpload | null;
    suggested_after_answer: boolean;
  };
}

/** The app's setting for files of a message, as its file has it. */
export interface FileUpload {
  number_limits?: number;
}
