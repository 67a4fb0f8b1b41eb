import type { AnswerHeaders } from './fetch.js';

/** The node of a workflow that an error is about, as far as the server names it. */
export interface ErrorNode {
  readonly id?: string | null;
  readonly node_id: string;
  readonly title?: string | null;
  readonly type?: string | null;
  readonly error_type?: string | null;
  readonly [field: string]: unknown;
}

export interface ErrorDetails {
  /** The answer's HTTP status. */
  status?: number | null | undefined;
  /** The server's name for what is wrong, such as `invalid_param`. */
  code?: string | null | undefined;
  requestId?: string | null | undefined;
  runId?: string | null | undefined;
  taskId?: string | null | undefined;
  node?: ErrorNode | null | undefined;
  /** The answer's body: parsed where it was JSON. */
  body?: unknown;
  cause?: unknown;
}

/** All errors of this package. What a server did not say is null. */
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

/** 401: the key is missing or wrong. */
export class AuthenticationError extends HeadraceError {}

/** 403: the key may not do that. */
export class PermissionDeniedError extends HeadraceError {}

/** 404; also where Dify answers 200 with nothing but nulls. */
export class NotFoundError extends HeadraceError {}

/**
 * 400, 413, 415, 422 and any other 4xx: the request is not as the server wants it.
 */
export class ValidationError extends HeadraceError {}

/** 409. */
export class ConflictError extends HeadraceError {}

/** 429. */
export class RateLimitError extends HeadraceError {
  /** Seconds that the server asks to wait; null where it does not say. */
  readonly retryAfter: number | null;

  constructor(message: string, details: ErrorDetails & { retryAfter?: number | null } = {}) {
    super(message, details);
    this.retryAfter = details.retryAfter ?? null;
  }
}

/** 5xx, or an answer that makes no sense. */
export class ServerError extends HeadraceError {}

/** No answer came: the server cannot be reached, or the connection broke. */
export class ConnectionError extends HeadraceError {}

/** No answer came in time. */
export class TimeoutError extends ConnectionError {}

/** A run did not end within the time that was to be waited. It goes on. */
export class WaitTimeoutError extends HeadraceError {
  /** The run's status when it was last asked for; null where it never was. */
  readonly runStatus: string | null;

  constructor(message: string, details: ErrorDetails & { runStatus?: string | null } = {}) {
    super(message, details);
    this.runStatus = details.runStatus ?? null;
  }
}

/** What is known of a stream that was cut off. */
export interface Interruption {
  /** The last event that arrived; null where none did. */
  readonly lastEvent: Readonly<Record<string, unknown>> | null;
  /** All text that had been written. */
  readonly text: string;
  readonly messageId: string | null;
  readonly conversationId: string | null;
}

/** A stream was cut off, and neither the rest of it nor its run's outcome could be had. */
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
 * The run failed or was stopped (where `raiseOnFailure` is asked for, and for chats, whose failure is an error
 * answer).
 */
export class RunFailedError extends HeadraceError {
  /** The run as the server told it; null where it told none. */
  readonly run: Readonly<Record<string, unknown>> | null;

  constructor(message: string, details: ErrorDetails & { run?: Readonly<Record<string, unknown>> | null } = {}) {
    super(message, details);
    this.run = details.run ?? null;
  }
}

/** The client or the call is not valid: no key, an address that is not one, a file that cannot be read. Nothing was sent. */
export class UsageError extends HeadraceError {}

const BY_STATUS: Readonly<Record<number, typeof HeadraceError>> = {
  401: AuthenticationError,
  403: PermissionDeniedError,
  404: NotFoundError,
  409: ConflictError,
};
const LONGEST = 300; // characters of a body that is told in an error's message

export interface ErrorAnswer {
  status: number;
  headers: AnswerHeaders;
  text: string;
}

/** The error that an answer of status 300 or more stands for. */
export function errorOf(answer: ErrorAnswer, known: Pick<ErrorDetails, 'runId' | 'taskId'> = {}): HeadraceError {
  const { status, headers, text } = answer;
  const body = parsed(text);
  const told = isObject(body) ? body : {};
  const code = typeof told['code'] === 'string' ? told['code'] : null;
  const message = messageOf(told, status, text, headers);
  const runId = typeof told['workflow_run_id'] === 'string' ? told['workflow_run_id'] : known.runId;
  const details: ErrorDetails = { ...known, status, code, runId, requestId: requestIdOf(headers), body: body ?? text };
  if (status === 400 && message.startsWith('Run failed:')) return new RunFailedError(message, details);
  // Dify tells of its limit of concurrent requests with a 400
  if (status === 429 || (status === 400 && message.startsWith('Too many requests'))) {
    return new RateLimitError(message, { ...details, retryAfter: retryAfterOf(headers) });
  }
  if (status >= 500) return new ServerError(message, details);
  return new (BY_STATUS[status] ?? (status < 400 ? ServerError : ValidationError))(message, details);
}

function messageOf(told: Record<string, unknown>, status: number, text: string, headers: AnswerHeaders): string {
  const message = told['message'];
  if (typeof message === 'string' && message) return message;
  if (message !== undefined && message !== null && message !== '') return JSON.stringify(message);
  const location = headers.get('location');
  if (status < 400 && location) return `The server redirects to ${location}: use that as the base URL.`;
  const words = plain(text);
  return words ? `HTTP ${status}: ${words}` : `HTTP ${status}`;
}

/** What a page says, without its markup. */
function plain(text: string): string {
  const words = text
    .slice(0, 10_000)
    .replace(/<(script|style|title)\b[\s\S]*?<\/\1\s*>/gi, ' ')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
  return words.length > LONGEST ? `${words.slice(0, LONGEST)}…` : words;
}

/** Seconds that a `Retry-After` header asks to wait: it holds seconds, or an HTTP date. */
export function retryAfterOf(headers: AnswerHeaders, now: number = Date.now()): number | null {
  const told = headers.get('retry-after')?.trim();
  if (!told) return null;
  if (/^\d+(\.\d+)?$/.test(told)) return Number(told);
  const at = Date.parse(told);
  return Number.isNaN(at) ? null : Math.max(0, (at - now) / 1000);
}

export function requestIdOf(headers: AnswerHeaders): string | null {
  return headers.get('x-request-id') ?? headers.get('x-trace-id');
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // HTML, or nothing
  }
}

/** A time as it is said in a message: `1 second`, `2.5 seconds`. */
export function secondsOf(number: number): string {
  return `${number} second${number === 1 ? '' : 's'}`;
}
