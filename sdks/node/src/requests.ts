/** What calls about runs are given. */

import type { UserOptions } from './core.js';
import type { FileInput } from './files.js';
import type { CallOptions, PollingPlan } from './options.js';

export interface RunRequest extends UserOptions {
  /**
   * An app's id or a version's (Headrace), a published version's (Dify). Left out, or where it is no UUID, the workflow
   * that the key is for is run as published.
   */
  workflowId?: string | undefined;
  /** The start node's variables by name; files among them are uploaded or passed on. */
  inputs?: Readonly<Record<string, unknown>> | undefined;
  /** What `sys.files` holds. A text is a URL or a path. */
  files?: readonly FileInput[] | undefined;
}

/** Of a chat (Headrace): `workflowId` is the app's id, and the run's answer is told with it. */
export interface MessageFields {
  /** What is asked. */
  query?: string | undefined;
  /** The conversation that goes on; left out for a new one. */
  conversationId?: string | undefined;
}

export interface CreateRunRequest extends RunRequest, MessageFields {
  /** For Headrace; one is made up where none is given, so that the request can be repeated without a second run. */
  idempotencyKey?: string | undefined;
  /** Where Headrace is to tell that the run has ended. */
  callbackUrl?: string | undefined;
}

export interface FailureOptions {
  /** RunFailedError for a run that failed or was stopped. */
  raiseOnFailure?: boolean | undefined;
}

export interface WaitOptions extends FailureOptions {
  polling?: PollingPlan | undefined;
  signal?: AbortSignal | undefined;
}

/** A run's id, or an answer that has it. */
export type RunRef = string | { readonly workflow_run_id: string } | { readonly id: string };

export interface RunFilter extends CallOptions {
  status?: string | undefined;
  workflowId?: string | undefined;
  user?: string | undefined;
  /** Seconds since the epoch, or ISO 8601. */
  createdAfter?: string | number | undefined;
  createdBefore?: string | number | undefined;
  keyword?: string | undefined;
  source?: string | undefined;
  /** Runs a page: 20. */
  limit?: number | undefined;
}

export interface LogFilter extends CallOptions {
  keyword?: string | undefined;
  status?: 'succeeded' | 'failed' | 'stopped' | undefined;
  /** ISO 8601. */
  createdAtBefore?: string | undefined;
  createdAtAfter?: string | undefined;
  createdByEndUserSessionId?: string | undefined;
  createdByAccount?: string | undefined;
  /** The first page: 1. */
  page?: number | undefined;
  /** Entries a page: 20. */
  limit?: number | undefined;
}
