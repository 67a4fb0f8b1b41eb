/** The requests and options of calls for runs. */

import type { UserOptions } from './core.js';
import type { FileInput } from './files.js';
import type { CallOptions, PollingPlan } from './options.js';

export interface RunRequest extends UserOptions {
  /**
   * The id of an app or a version (Headrace), or of a published version (Dify). If it is left out or is not a UUID, the
   * published workflow of the API key is run.
   */
  workflowId?: string | undefined;
  /** The start node's variables by name; files are uploaded, or referenced by URL. */
  inputs?: Readonly<Record<string, unknown>> | undefined;
  /** The value of `sys.files`. A string is a URL or a path. */
  files?: readonly FileInput[] | undefined;
}

/** For a chat (Headrace): `workflowId` is the app's id, and the run has an `answer`. */
export interface MessageFields {
  /** The user's message. */
  query?: string | undefined;
  /** The conversation to continue; left out for a new one. */
  conversationId?: string | undefined;
}

export interface CreateRunRequest extends RunRequest, MessageFields {
  /** For Headrace; generated if none is given, so that the request can be retried without a second run. */
  idempotencyKey?: string | undefined;
  /** The URL that Headrace calls when the run has ended. */
  callbackUrl?: string | undefined;
}

export interface FailureOptions {
  /** RunFailedError for a run that failed or was stopped. */
  raiseOnFailure?: boolean | undefined;
}

export interface WaitOptions extends FailureOptions {
  /** False: a run that pauses is returned, too. By default the client waits until it has ended. */
  continueOnPause?: boolean | undefined;
  polling?: PollingPlan | undefined;
  signal?: AbortSignal | undefined;
}

export interface StreamEventsOptions extends UserOptions {
  /** Past events, too. */
  includeStateSnapshot?: boolean | undefined;
  /** The stream does not end when the run pauses again. */
  continueOnPause?: boolean | undefined;
}

/** A run's id, or an object that has it. */
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
