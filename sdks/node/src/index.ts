/** A client for workflows, chats and knowledge bases of Headrace, Dify Cloud and self-hosted Dify. */

export { Client, DifyClient } from './client.js';
export type { ChatRequest, CompletionRequest, ListOptions } from './chats.js';
export type { UserOptions } from './core.js';
export type * from './dataset-models.js';
export type * from './dataset-requests.js';
export type { Datasets } from './datasets.js';
export {
  AuthenticationError,
  ConflictError,
  ConnectionError,
  HeadraceError,
  IndexingFailedError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
  RunFailedError,
  ServerError,
  StreamInterruptedError,
  TimeoutError,
  UsageError,
  ValidationError,
  WaitTimeoutError,
} from './errors.js';
export type { ErrorDetails, ErrorNode, Interruption } from './errors.js';
export { isEvent } from './events.js';
export type * from './events.js';
export type {
  FormAction,
  FormFilledData,
  FormInput,
  FormTimeoutData,
  HumanInputForm,
  HumanInputRequiredData,
  PauseReason,
} from './human-input.js';
export type { AnswerHeaders, Fetch, FetchAnswer, FetchInit } from './fetch.js';
export { LocalFile } from './files.js';
export type { FileContent, FileInput, FileMapping, FileOptions, FileType } from './files.js';
export { isFinal, raiseForStatus } from './models.js';
export type * from './models.js';
export { VERSION } from './options.js';
export type { CallOptions, ChangedOptions, ClientOptions, Logger, PollingPlan, RetryPolicy } from './options.js';
export { Pages } from './pages.js';
export type {
  CreateRunRequest,
  FailureOptions,
  LogFilter,
  MessageFields,
  RunFilter,
  RunRef,
  RunRequest,
  StreamEventsOptions,
  WaitOptions,
} from './requests.js';
export { responseOf } from './responses.js';
export type { RawResponse } from './responses.js';
export { EventStream } from './streams.js';
