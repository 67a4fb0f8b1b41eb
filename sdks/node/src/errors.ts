import type { IndexingStatus } from './dataset-models.js';
import type { AnswerHeaders } from './fetch.js';

/** The node of a workflow that failed, as the server describes it. */
export interface ErrorNode {
  readonly id?: string | null;
  readonly node_id: string;
  readonly title?: string | null;
  readonly type?: string | null;
  readonly error_type?: string | null;
  readonly [field: string]: unknown;
}

export interface ErrorDetails {
  /** The response's HTTP status. */
  status?: number | null | undefined;
  /** The server's error code, such as `invalid_param`. */
  code?: string | null | undefined;
  requestId?: string | null | undefined;
  runId?: string | null | undefined;
  taskId?: string | null | undefined;
  node?: ErrorNode | null | undefined;
  /** The response's body; parsed if it was JSON. */
  body?: unknown;
  cause?: unknown;
}

/** The base class of all errors. What the server did not send is null. */
export class HeadraceError extends Error {
  readonly status: number | null;
  readonly code: string | null;
  readonly requestId: string | null;
  readonly runId: string | null;
  readonly taskId: string | null;
  readonly node: ErrorNode | null;
  readonly body: unknown;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.status = details.status ?? null;
    this.code = details.code ?? null;
    this.requestId = details.requestId ?? null;
    this.runId = details.runId ?? null;
    this.taskId = details.taskId ?? null;
    this.node = details.node ?? null;
    this.body = details.body ?? null;
  }
}

/** 401: the key is missing or not valid. */
export class AuthenticationError extends HeadraceError {}

/** 403: the key does not allow this. */
export class PermissionDeniedError extends HeadraceError {}

/** 404; also if Dify returns 200 with a run of nulls. */
export class NotFoundError extends HeadraceError {}

/**
 * 400, 413, 415, 422 and any other 4xx: the server does not accept the request.
 */
export class ValidationError extends HeadraceError {}

/** 409. */
export class ConflictError extends HeadraceError {}

/** 429. */
export class RateLimitError extends HeadraceError {
  /** Seconds to wait before a retry; null if the server does not send them. */
  readonly retryAfter: number | null;

  constructor(message: string, details: ErrorDetails & { retryAfter?: number | null } = {}) {
    super(message, details);
    this.retryAfter = details.retryAfter ?? null;
  }
}

/** 5xx, or a response that cannot be understood. */
export class ServerError extends HeadraceError {}

/** The server could not be reached, or the connection broke. */
export class ConnectionError extends HeadraceError {}

/** The server did not respond in time. */
export class TimeoutError extends ConnectionError {}

/** The run, or the indexing, had not ended when the wait timed out. It continues. */
export class WaitTimeoutError extends HeadraceError {
  /** The run's last status that was read; null if none was. */
  readonly runStatus: string | null;
  /** The last statuses of the documents whose indexing had not ended. */
  readonly documents: readonly IndexingStatus[];

  constructor(
    message: string,
    details: ErrorDetails & { runStatus?: string | null; documents?: readonly IndexingStatus[] } = {},
  ) {
    super(message, details);
    this.runStatus = details.runStatus ?? null;
    this.documents = details.documents ?? [];
  }
}

/** A document could not be indexed. */
export class IndexingFailedError extends HeadraceError {
  /** The statuses of all documents of its batch. */
  readonly documents: readonly IndexingStatus[];

  constructor(message: string, details: ErrorDetails & { documents?: readonly IndexingStatus[] } = {}) {
    super(message, details);
    this.documents = details.documents ?? [];
  }
}

/** What is known about a stream that was cut. */
export interface Interruption {
  /** The last event that was received; null if there was none. */
  readonly lastEvent: Readonly<Record<string, unknown>> | null;
  /** All text streamed so far. */
  readonly text: string;
  readonly messageId: string | null;
  readonly conversationId: string | null;
}

/** A stream was cut, and neither the rest of it nor the run's outcome could be fetched. */
export class StreamInterruptedError extends ConnectionError implements Interruption {
  readonly lastEvent: Readonly<Record<string, unknown>> | null;
  readonly text: string;
  readonly messageId: string | null;
  readonly conversationId: string | null;

  constructor(message: string, details: ErrorDetails & Partial<Interruption> = {}) {
    super(message, details);
    this.lastEvent = details.lastEvent ?? null;
    this.text = details.text ?? '';
    this.messageId = details.messageId ?? null;
    this.conversationId = details.conversationId ?? null;
  }
}

/**
 * The run failed or was stopped (with `raiseOnFailure`, and for chats, whose failure is an error response).
 */
export class RunFailedError extends HeadraceError {
  /** The run as the server sent it; null if it sent none. */
  readonly run: Readonly<Record<string, unknown>> | null;

  constructor(message: string, details: ErrorDetails & { run?: Readonly<Record<string, unknown>> | null } = {}) {
    super(message, details);
    this.run = details.run ?? null;
  }
}

/** The client or the call is not valid: a missing key, an invalid URL, a file that cannot be read. Nothing was sent. */
export class UsageError extends HeadraceError {}

const BY_STATUS: Readonly<Record<number, typeof HeadraceError>> = {
  401: AuthenticationError,
  403: PermissionDeniedError,
  404: NotFoundError,
  409: ConflictError,
};
const MAX_SHOWN = 300; // characters of a body in an error's message

export interface ErrorResponse {
  status: number;
  headers: AnswerHeaders;
  text: string;
}

/** The error for a response. */
export function parseError(response: ErrorResponse, known: Pick<ErrorDetails, 'runId' | 'taskId'> = {}): HeadraceError {
  const { status, headers, text } = response;
  const body = tryParseJson(text);
  const fields = isObject(body) ? body : {};
  const code = typeof fields['code'] === 'string' ? fields['code'] : null;
  const message = parseMessage(fields, status, text, headers);
  const runId = typeof fields['workflow_run_id'] === 'string' ? fields['workflow_run_id'] : known.runId;
  const details: ErrorDetails = { ...known, status, code, runId, requestId: getRequestId(headers), body: body ?? text };
  if (status === 400 && message.startsWith('Run failed:')) return new RunFailedError(message, details);
  // Dify reports its limit of concurrent requests with a 400
  if (status === 429 || (status === 400 && message.startsWith('Too many requests'))) {
    return new RateLimitError(message, { ...details, retryAfter: parseRetryAfter(headers) });
  }
  if (status >= 500) return new ServerError(message, details);
  return new (BY_STATUS[status] ?? (status < 400 ? ServerError : ValidationError))(message, details);
}

function parseMessage(body: Record<string, unknown>, status: number, text: string, headers: AnswerHeaders): string {
  const message = body['message'];
  if (typeof message === 'string' && message) return message;
  if (message !== undefined && message !== null && message !== '') return JSON.stringify(message);
  const location = headers.get('location');
  if (status < 400 && location) return `The server redirects to ${location}: use that as the base URL.`;
  const plainText = stripMarkup(text);
  return plainText ? `HTTP ${status}: ${plainText}` : `HTTP ${status}`;
}

/** The text of an HTML page. */
function stripMarkup(html: string): string {
  const text = html
    .slice(0, 10_000)
    .replace(/<(script|style|title)\b[\s\S]*?<\/\1\s*>/gi, ' ')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

/** The seconds of a `Retry-After` header, which has a number or an HTTP date. */
export function parseRetryAfter(headers: AnswerHeaders, now: number = Date.now()): number | null {
  const value = headers.get('retry-after')?.trim();
  if (!value) return null;
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value);
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, (date - now) / 1000);
}

export function getRequestId(headers: AnswerHeaders): string | null {
  return headers.get('x-request-id') ?? headers.get('x-trace-id');
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function tryParseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // HTML, or nothing
  }
}

/** A duration for a message: `1 second`, `2.5 seconds`. */
export function formatSeconds(number: number): string {
  return `${number} second${number === 1 ? '' : 's'}`;
}
