import { WorkflowRequests, waitTimeoutError } from './workflow-requests.js';
import { encodeSegment } from './core.js';
import { RUN_ENDS, WORKFLOW_ENDS } from './event-reader.js';
import type { UserOptions } from './core.js';
import { HeadraceError, StreamInterruptedError, UsageError, isObject } from './errors.js';
import type { WorkflowEvent } from './events.js';
import { raiseForStatus, normalizeRun } from './models.js';
import type { CreatedRun, Done, FinishedRun, NodeExecution, Page, Values, WorkflowLog, WorkflowRun } from './models.js';
import type { CallOptions } from './options.js';
import { Pages } from './pages.js';
import { randomUuid } from './platform.js';
import { copyResponse } from './responses.js';
import type {
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
import type { EventStream } from './streams.js';
import { parseObject } from './transport.js';

const BLOCKING_TIMEOUT = 300; // default seconds of a blocking call

/** Calls for workflow runs. */
export class Runs extends WorkflowRequests {
  // --------------------------------------------------------------------------------------------------------- create

  /**
   * Starts a run without waiting for its end; the response has its `workflow_run_id`. `timeout`: seconds for this call.
   * On Dify, which has no asynchronous API, a streaming run is started and its stream closed after the first event.
   */
  async createWorkflowRun(request: CreateRunRequest = {}): Promise<CreatedRun> {
    const { callbackUrl } = request;
    const body = await this.buildBody(request);
    const extra = { ...(callbackUrl ? { callback_url: callbackUrl } : {}), ...messageFields(request) };
    const response = await this.sendToHeadrace(request, { ...body, ...extra }, 'async');
    if (response) return parseObject<CreatedRun>(response);
    checkNoHeadraceFields(request);
    const stream = this.stream(request, () => this.startStream(request, body));
    try {
      for await (const event of stream) {
        if (event.event === 'error') throw eventError({ ...event }, stream.runId);
        if (!stream.runId) continue;
        const data = 'data' in event && isObject(event.data) ? event.data : {};
        const created = { workflow_run_id: stream.runId, task_id: stream.taskId ?? '', status: 'running' as const };
        return typeof data['created_at'] === 'number' ? { ...created, created_at: data['created_at'] } : created;
      }
    } finally {
      await stream.close();
    }
    throw new StreamInterruptedError('The stream ended before it named the run.');
  }

  /**
   * Runs a workflow and waits for its end on one connection. A failed run is returned, too, unless `raiseOnFailure`. For
   * runs of more than a minute prefer `runAndWait`: proxies close idle connections.
   */
  async runWorkflow(request: RunRequest & FailureOptions = {}): Promise<FinishedRun> {
    const withTimeout = { ...request, timeout: request.timeout ?? BLOCKING_TIMEOUT };
    const requestBody = await this.buildBody(withTimeout);
    const response =
      (await this.sendToHeadrace(withTimeout, requestBody, 'blocking')) ??
      (await this.sendToDify(withTimeout, requestBody, 'blocking', (call) => this.transport.send(call)));
    const payload = parseObject<Values>(response);
    const run = normalizeRun(payload);
    const data = isObject(payload['data']) ? payload['data'] : payload;
    const node = await this.#fetchFailedNode(run, withTimeout);
    const finished = copyResponse(payload, { ...run, ...node, task_id: run.task_id ?? '', data });
    return request.raiseOnFailure ? raiseForStatus(finished) : finished;
  }

  /** The node that failed, which a blocking response does not name; Headrace's status has it. */
  async #fetchFailedNode(run: WorkflowRun, options: CallOptions): Promise<Pick<WorkflowRun, 'error_node'>> {
    if (run.status !== 'failed' || run.error_node || this.serverState.hasAsyncApi === false) return {};
    try {
      const { error_node } = await this.fetchStatus(run.workflow_run_id, { signal: options.signal });
      return error_node ? { error_node } : {};
    } catch (error) {
      if (error instanceof HeadraceError) return {}; // the run itself is known, and is what the caller requested
      throw error;
    }
  }

  /** Runs a workflow and streams its events. `timeout`: seconds until the first event. */
  streamWorkflow(request: RunRequest = {}): EventStream<WorkflowEvent> {
    let key: Promise<string> | undefined;
    const getKey = () => (key ??= randomUuid());
    let body: Promise<Values> | undefined;
    const getBody = () => (body ??= this.buildBody(request));
    const reopen = async () => this.openHeadraceStream(request, await getBody(), await getKey());
    return this.stream(request, async () => this.startStream(request, await getBody(), await getKey()), { reopen });
  }

  /**
   * Runs a workflow and waits for its end in the way that suits the server: by long polling on Headrace; on Dify by
   * reading the run's stream, and by polling if that is cut.
   */
  async runAndWait(request: RunRequest & WaitOptions & MessageFields = {}): Promise<WorkflowRun> {
    const body = await this.buildBody(request);
    const plan = this.plan(request.polling);
    const response = await this.sendToHeadrace(request, { ...body, ...messageFields(request) }, 'async');
    if (response) return this.waitForRun(parseObject<CreatedRun>(response).workflow_run_id, plan, request, true);
    checkNoHeadraceFields(request);
    const deadline = this.transport.clock() + plan.timeout;
    const stream = this.stream(request, () => this.startStream(request, body), { plan });
    try {
      for await (const event of stream) {
        if (event.event === 'error') throw eventError({ ...event }, stream.runId);
        if (!stream.run && this.transport.clock() >= deadline) throw waitTimeoutError(stream.runId, 'running', plan);
      }
    } finally {
      await stream.close();
    }
    const { run } = stream;
    if (!run) return this.waitForRun(stream.runId ?? '', plan, request); // paused
    return request.raiseOnFailure ? raiseForStatus(run) : run;
  }

  // ----------------------------------------------------------------------------------------------------------- read

  /** The current state of a run. */
  async getWorkflowRunStatus(run: RunRef, options: CallOptions = {}): Promise<WorkflowRun> {
    return this.fetchStatus(toRunId(run), options);
  }

  /** A run's detail as Dify's `/v1/workflows/run/{id}` returns it; inputs and outputs as objects. */
  async getWorkflowRun(run: RunRef, options: CallOptions = {}): Promise<WorkflowRun> {
    return this.fetchDetail(toRunId(run), options);
  }

  /**
   * Polls a run until it has ended: succeeded, failed, stopped or partial-succeeded. WaitTimeoutError, with the last
   * status, after the plan's timeout; the run itself continues.
   */
  async wait(run: RunRef, options: WaitOptions = {}): Promise<WorkflowRun> {
    return this.waitForRun(toRunId(run), this.plan(options.polling), options);
  }

  /** All events of an existing run (Headrace). See also `streamWorkflowEvents`. */
  followWorkflowRun(run: RunRef, options: UserOptions = {}): EventStream<WorkflowEvent> {
    const runId = toRunId(run);
    const path = `/api/workflow-runs/${encodeSegment(runId)}/events`;
    const { signal, timeout } = options;
    const start = async () => {
      const stream = await this.transport.open({ method: 'GET', path, repeat: 'always', signal, timeout });
      this.detectAsyncApi(stream);
      return stream;
    };
    return this.stream(options, start, { runId });
  }

  /**
   * The events of an existing run from now on, as after a pause; of a run that has ended, only its end. `user`: the user
   * of the run.
   */
  streamWorkflowEvents(run: RunRef, options: StreamEventsOptions = {}): EventStream<WorkflowEvent> {
    const runId = toRunId(run);
    const { signal, timeout, includeStateSnapshot, continueOnPause } = options;
    const start = () =>
      this.transport.open({
        method: 'GET',
        path: `/v1/workflow/${encodeSegment(runId)}/events`,
        query: {
          user: this.userOf(options),
          include_state_snapshot: includeStateSnapshot || undefined,
          continue_on_pause: continueOnPause || undefined,
        },
        repeat: 'always',
        signal,
        timeout,
      });
    return this.stream(options, start, { runId, reopen: start, ends: continueOnPause ? RUN_ENDS : WORKFLOW_ENDS });
  }

  /** The executions of a run's nodes (Headrace). */
  async listNodeExecutions(run: RunRef, options: CallOptions = {}): Promise<readonly NodeExecution[]> {
    const path = `/api/workflow-runs/${encodeSegment(toRunId(run))}/node-executions`;
    return (await this.get<Page<NodeExecution>>(path, options)).data;
  }

  /** The app's runs, newest first (Headrace). */
  listWorkflowRuns(filter: RunFilter = {}): Pages<WorkflowRun> {
    const fetchPage = async (cursor: unknown): Promise<Page<WorkflowRun>> => {
      const page = await this.get<Page<Values>>('/api/v1/workflow-runs', filter, {
        status: filter.status,
        workflow_id: filter.workflowId,
        user: filter.user,
        created_after: filter.createdAfter,
        created_before: filter.createdBefore,
        keyword: filter.keyword,
        source: filter.source,
        limit: filter.limit ?? 20,
        cursor: cursor as string | undefined,
      });
      return copyResponse(page, { ...page, data: page.data.map(normalizeRun) });
    };
    return new Pages(fetchPage, (page) => page['next_cursor']);
  }

  /** The log of runs, newest first. */
  listWorkflowLogs(filter: LogFilter = {}): Pages<WorkflowLog> {
    const fetchPage = async (number: unknown): Promise<Page<WorkflowLog>> => {
      const page = await this.get<Page<WorkflowLog>>('/v1/workflows/logs', filter, {
        keyword: filter.keyword,
        status: filter.status,
        created_at__before: filter.createdAtBefore,
        created_at__after: filter.createdAtAfter,
        created_by_end_user_session_id: filter.createdByEndUserSessionId,
        created_by_account: filter.createdByAccount,
        page: number as number,
        limit: filter.limit ?? 20,
      });
      return copyResponse(page, { ...page, page: page.page ?? (number as number) });
    };
    return new Pages(fetchPage, (page) => (page.has_more ? (page.page ?? 1) + 1 : undefined), filter.page ?? 1);
  }

  // ---------------------------------------------------------------------------------------------------- stop, retry

  /** Stops the run of a task. An unknown task is not an error: it may have ended. */
  async stopWorkflow(taskId: string, options: UserOptions = {}): Promise<Done> {
    return this.post<Done>(
      `/v1/workflows/tasks/${encodeSegment(taskId)}/stop`,
      { user: this.userOf(options) },
      options,
    );
  }

  /** Stops a run by its id, and returns its new status (Headrace). */
  async stopWorkflowRun(run: RunRef, options: UserOptions = {}): Promise<CreatedRun> {
    const path = `/api/workflow-runs/${encodeSegment(toRunId(run))}/stop`;
    return this.post<CreatedRun>(path, { user: this.userOf(options) }, options);
  }

  /** Starts a new run that continues where a failed or stopped one ended (Headrace). */
  async retryWorkflowRun(
    run: RunRef,
    options: CallOptions & { idempotencyKey?: string | undefined } = {},
  ): Promise<CreatedRun> {
    return this.transport.json<CreatedRun>({
      method: 'POST',
      path: `/api/workflow-runs/${encodeSegment(toRunId(run))}/retry`,
      json: {},
      headers: { 'Idempotency-Key': options.idempotencyKey ?? (await randomUuid()) },
      repeat: 'always',
      signal: options.signal,
      timeout: options.timeout,
    });
  }
}

export function toRunId(run: RunRef): string {
  const id: unknown = typeof run === 'string' ? run : 'workflow_run_id' in run ? run.workflow_run_id : run?.id;
  if (typeof id === 'string' && id) return id;
  throw new UsageError('A run id is required: a string, or an object that has workflow_run_id.');
}

function eventError(event: Values, runId: string | null): HeadraceError {
  const { message, status, code } = event;
  return new HeadraceError(typeof message === 'string' && message ? message : 'The run could not be started.', {
    status: typeof status === 'number' ? status : null,
    code: typeof code === 'string' ? code : null,
    runId,
    body: event,
  });
}

/** The fields of a chat message in Headrace's request. */
function messageFields({ query, conversationId }: MessageFields): Values {
  return { ...(query ? { query } : {}), ...(conversationId ? { conversation_id: conversationId } : {}) };
}

/** UsageError if the request has a field that only Headrace's asynchronous API supports. */
function checkNoHeadraceFields(request: MessageFields & { callbackUrl?: string | undefined }): void {
  const name = (['callbackUrl', 'query', 'conversationId'] as const).find((field) => request[field]);
  if (name) throw new UsageError(`${name} needs Headrace's asynchronous API, and a workflowId that exists there.`);
}
