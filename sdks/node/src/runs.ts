import { Asking, tooLong } from './workflow-requests.js';
import { segment } from './core.js';
import type { UserOptions } from './core.js';
import { HeadraceError, StreamInterruptedError, UsageError, isObject } from './errors.js';
import type { WorkflowEvent } from './events.js';
import { raiseForStatus, runOf } from './models.js';
import type { CreatedRun, Done, FinishedRun, NodeExecution, Page, Values, WorkflowLog, WorkflowRun } from './models.js';
import type { CallOptions } from './options.js';
import { Pages } from './pages.js';
import { randomUuid } from './platform.js';
import { carried } from './responses.js';
import type {
  CreateRunRequest,
  FailureOptions,
  LogFilter,
  MessageFields,
  RunFilter,
  RunRef,
  RunRequest,
  WaitOptions,
} from './requests.js';
import type { EventStream } from './streams.js';
import { parse } from './transport.js';

const LONG = 300; // seconds that a blocking call may take where nothing else is said

/** Calls about workflow runs. */
export class Runs extends Asking {
  // -------------------------------------------------------------------------------------------------------- ask for

  /**
   * Begins a run, and does not wait for it: the answer has its `workflow_run_id`. `timeout`: seconds that this call may
   * take. On Dify, which has no asynchronous API, a streaming run is begun and let go of after its first event.
   */
  async createWorkflowRun(request: CreateRunRequest = {}): Promise<CreatedRun> {
    const { callbackUrl } = request;
    const body = await this.bodyOf(request);
    const extra = { ...(callbackUrl ? { callback_url: callbackUrl } : {}), ...messageOf(request) };
    const answer = await this.askHeadrace(request, { ...body, ...extra }, 'async');
    if (answer) return parse<CreatedRun>(answer);
    refuse(request);
    const stream = this.stream(request, () => this.begin(request, body));
    try {
      for await (const event of stream) {
        if (event.event === 'error') throw errorOfEvent({ ...event }, stream.runId);
        if (!stream.runId) continue;
        const data = 'data' in event && isObject(event.data) ? event.data : {};
        const created = { workflow_run_id: stream.runId, task_id: stream.taskId ?? '', status: 'running' as const };
        return typeof data['created_at'] === 'number' ? { ...created, created_at: data['created_at'] } : created;
      }
    } finally {
      await stream.close();
    }
    throw new StreamInterruptedError("The stream ended before it told the run's id.");
  }

  /**
   * Runs a workflow and waits, on one connection, for the run's end. A failed run is an answer, too, unless
   * `raiseOnFailure`. For runs of more than a minute prefer `runAndWait`: proxies cut silent connections.
   */
  async runWorkflow(request: RunRequest & FailureOptions = {}): Promise<FinishedRun> {
    const asked = { ...request, timeout: request.timeout ?? LONG };
    const body = await this.bodyOf(asked);
    const answer =
      (await this.askHeadrace(asked, body, 'blocking')) ??
      (await this.askDify(asked, body, 'blocking', (call) => this.transport.send(call)));
    const told = parse<Values>(answer);
    const run = runOf(told);
    const data = isObject(told['data']) ? told['data'] : told;
    const node = await this.#failedNode(run, asked);
    const finished = carried(told, { ...run, ...node, task_id: run.task_id ?? '', data });
    return request.raiseOnFailure ? raiseForStatus(finished) : finished;
  }

  /** The node that failed, which a blocking answer does not name; Headrace tells it. */
  async #failedNode(run: WorkflowRun, options: CallOptions): Promise<Pick<WorkflowRun, 'error_node'>> {
    if (run.status !== 'failed' || run.error_node || this.known.headrace === false) return {};
    try {
      const { error_node } = await this.look(run.workflow_run_id, { signal: options.signal });
      return error_node ? { error_node } : {};
    } catch (error) {
      if (error instanceof HeadraceError) return {}; // the run's answer is there, and is what was wanted
      throw error;
    }
  }

  /** Runs a workflow and tells its events as they come. `timeout`: until the first of them may take so long. */
  streamWorkflow(request: RunRequest = {}): EventStream<WorkflowEvent> {
    let key: Promise<string> | undefined;
    const keyed = () => (key ??= randomUuid());
    let body: Promise<Values> | undefined;
    const made = () => (body ??= this.bodyOf(request));
    const again = async () => this.openHeadrace(request, await made(), await keyed());
    return this.stream(request, async () => this.begin(request, await made(), await keyed()), { again });
  }

  /**
   * Runs a workflow and waits for its end the way that is best with this server: Headrace is asked to tell when the run
   * ends; of Dify the run's stream is read, and its detail is polled where that is cut.
   */
  async runAndWait(request: RunRequest & WaitOptions & MessageFields = {}): Promise<WorkflowRun> {
    const body = await this.bodyOf(request);
    const plan = this.plan(request.polling);
    const answer = await this.askHeadrace(request, { ...body, ...messageOf(request) }, 'async');
    if (answer) return this.waited(parse<CreatedRun>(answer).workflow_run_id, plan, request, true);
    refuse(request);
    const until = this.transport.clock() + plan.timeout;
    const stream = this.stream(request, () => this.begin(request, body), { plan });
    try {
      for await (const event of stream) {
        if (event.event === 'error') throw errorOfEvent({ ...event }, stream.runId);
        if (!stream.run && this.transport.clock() >= until) throw tooLong(stream.runId, 'running', plan);
      }
    } finally {
      await stream.close();
    }
    const { run } = stream;
    if (!run) return this.waited(stream.runId ?? '', plan, request); // paused
    return request.raiseOnFailure ? raiseForStatus(run) : run;
  }

  // ----------------------------------------------------------------------------------------------------------- look

  /** How a run stands. */
  async getWorkflowRunStatus(run: RunRef, options: CallOptions = {}): Promise<WorkflowRun> {
    return this.look(runIdOf(run), options);
  }

  /** A run's detail as Dify's `/v1/workflows/run/{id}` has it; inputs and outputs as objects. */
  async getWorkflowRun(run: RunRef, options: CallOptions = {}): Promise<WorkflowRun> {
    return this.detail(runIdOf(run), options);
  }

  /**
   * Looks at a run until it has ended: succeeded, failed, stopped or partial-succeeded. WaitTimeoutError, with the last
   * status, when the plan's time is over; the run goes on then.
   */
  async wait(run: RunRef, options: WaitOptions = {}): Promise<WorkflowRun> {
    return this.waited(runIdOf(run), this.plan(options.polling), options);
  }

  /** The events of a run that was begun elsewhere (Headrace), from its first. */
  followWorkflowRun(run: RunRef, options: UserOptions = {}): EventStream<WorkflowEvent> {
    const runId = runIdOf(run);
    const path = `/api/workflow-runs/${segment(runId)}/events`;
    const { signal, timeout } = options;
    const start = async () => {
      const stream = await this.transport.open({ method: 'GET', path, repeat: 'always', signal, timeout });
      this.learn(stream);
      return stream;
    };
    return this.stream(options, start, { runId });
  }

  /** What each node of a run did (Headrace). */
  async listNodeExecutions(run: RunRef, options: CallOptions = {}): Promise<readonly NodeExecution[]> {
    const path = `/api/workflow-runs/${segment(runIdOf(run))}/node-executions`;
    return (await this.get<Page<NodeExecution>>(path, options)).data;
  }

  /** The app's runs, newest first (Headrace). */
  listWorkflowRuns(filter: RunFilter = {}): Pages<WorkflowRun> {
    const ask = async (cursor: unknown): Promise<Page<WorkflowRun>> => {
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
      return carried(page, { ...page, data: page.data.map(runOf) });
    };
    return new Pages(ask, (page) => page['next_cursor']);
  }

  /** The log of runs, newest first. */
  listWorkflowLogs(filter: LogFilter = {}): Pages<WorkflowLog> {
    const ask = async (number: unknown): Promise<Page<WorkflowLog>> => {
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
      return carried(page, { ...page, page: page.page ?? (number as number) });
    };
    return new Pages(ask, (told) => (told.has_more ? (told.page ?? 1) + 1 : undefined), filter.page ?? 1);
  }

  // ---------------------------------------------------------------------------------------------------- stop, retry

  /** Stops the run of a task. A task that is not known is no error: it may have ended. */
  async stopWorkflow(taskId: string, options: UserOptions = {}): Promise<Done> {
    return this.post<Done>(`/v1/workflows/tasks/${segment(taskId)}/stop`, { user: this.userOf(options) }, options);
  }

  /** Stops a run by its id, and tells what it is then (Headrace). */
  async stopWorkflowRun(run: RunRef, options: UserOptions = {}): Promise<CreatedRun> {
    const path = `/api/workflow-runs/${segment(runIdOf(run))}/stop`;
    return this.post<CreatedRun>(path, { user: this.userOf(options) }, options);
  }

  /** Begins a new run that goes on where a failed or stopped one ended (Headrace). */
  async retryWorkflowRun(
    run: RunRef,
    options: CallOptions & { idempotencyKey?: string | undefined } = {},
  ): Promise<CreatedRun> {
    return this.transport.json<CreatedRun>({
      method: 'POST',
      path: `/api/workflow-runs/${segment(runIdOf(run))}/retry`,
      json: {},
      headers: { 'Idempotency-Key': options.idempotencyKey ?? (await randomUuid()) },
      repeat: 'always',
      signal: options.signal,
      timeout: options.timeout,
    });
  }
}

export function runIdOf(run: RunRef): string {
  const id: unknown = typeof run === 'string' ? run : 'workflow_run_id' in run ? run.workflow_run_id : run?.id;
  if (typeof id === 'string' && id) return id;
  throw new UsageError("A run's id is needed: a text, or an answer that has workflow_run_id.");
}

function errorOfEvent(event: Values, runId: string | null): HeadraceError {
  const { message, status, code } = event;
  return new HeadraceError(typeof message === 'string' && message ? message : 'The run could not be begun.', {
    status: typeof status === 'number' ? status : null,
    code: typeof code === 'string' ? code : null,
    runId,
    body: event,
  });
}

/** The fields of a message, as Headrace knows them. */
function messageOf({ query, conversationId }: MessageFields): Values {
  return { ...(query ? { query } : {}), ...(conversationId ? { conversation_id: conversationId } : {}) };
}

/** Throws where something was given that only Headrace's asynchronous API knows, and this server has none. */
function refuse(given: MessageFields & { callbackUrl?: string | undefined }): void {
  const name = (['callbackUrl', 'query', 'conversationId'] as const).find((each) => given[each]);
  if (name) throw new UsageError(`${name} needs Headrace's asynchronous API, and a workflowId that it knows.`);
}
