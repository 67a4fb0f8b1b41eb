import { Core, encodeSegment } from './core.js';
import type { UserOptions } from './core.js';
import { NotFoundError, StreamInterruptedError, WaitTimeoutError, formatSeconds } from './errors.js';
import type { WorkflowEvent } from './events.js';
import type { HttpResponse, ResponseStream } from './http-request.js';
import { isFinal, raiseForStatus, normalizeRun } from './models.js';
import type { Values, WorkflowRun } from './models.js';
import type { CallOptions, Plan } from './options.js';
import { EventReader, WORKFLOW_ENDS } from './event-reader.js';
import { randomUuid } from './platform.js';
import type { RawEvent } from './event-reader.js';
import type { CreateRunRequest, RunRequest, WaitOptions } from './requests.js';
import { EventStream } from './streams.js';
import { parseObject } from './transport.js';
import type { Call } from './call.js';

const UUID = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;
const LONG_POLL = 20; // seconds for which Headrace may hold a request until the run ends
const GRACE = 30; // further seconds for that response to arrive
const HINT =
  " On Dify, a workflow id identifies one published version (it is not the app's id in the studio's URL); " +
  'leave workflowId out to run the latest published version.';

/** Starts, streams and polls runs through whichever API the server has. */
export class WorkflowRequests extends Core {
  // -------------------------------------------------------------------------------------------------------- waiting

  /** @internal */
  protected async waitForRun(runId: string, plan: Plan, options: WaitOptions, longPoll = false): Promise<WorkflowRun> {
    const { clock, sleep } = this.transport;
    const { signal } = options;
    const deadline = clock() + plan.timeout;
    let interval = plan.first;
    let status: string | null = null;
    for (let remaining = plan.timeout; remaining > 0; remaining = deadline - clock()) {
      let run: WorkflowRun;
      if (longPoll) {
        const wait = Math.min(LONG_POLL, remaining);
        const startedAt = clock();
        run = await this.fetchStatus(runId, { signal, timeout: wait + GRACE }, wait);
        longPoll = clock() - startedAt >= Math.min(1, wait); // a server that returns at once is polled instead
      } else {
        await sleep(Math.min(interval, remaining), signal);
        interval = Math.min(plan.longest, interval * plan.factor);
        run = await this.fetchStatus(runId, { signal });
      }
      if (isFinal(run.status) || (run.status === 'paused' && options.continueOnPause === false))
        return options.raiseOnFailure ? raiseForStatus(run) : run;
      status = run.status;
    }
    throw waitTimeoutError(runId, status, plan);
  }

  /** @internal */
  protected async fetchStatus(runId: string, options: CallOptions, wait?: number): Promise<WorkflowRun> {
    if (this.serverState.hasAsyncApi !== false) {
      const response = await this.transport.send({
        method: 'GET',
        path: `/api/workflow-runs/${encodeSegment(runId)}`,
        query: { wait: wait?.toFixed(3) },
        repeat: 'always',
        accept: (status, headers) => this.isForeign(status, headers),
        signal: options.signal,
        timeout: options.timeout,
      });
      if (this.detectAsyncApi(response)) return normalizeRun(parseObject<Values>(response));
    }
    return this.fetchDetail(runId, options);
  }

  /** @internal */
  protected async fetchDetail(runId: string, options: CallOptions): Promise<WorkflowRun> {
    const payload = await this.get<Values>(`/v1/workflows/run/${encodeSegment(runId)}`, options);
    if (!payload['id'] && !payload['status']) {
      // how Dify reports that there is no such run
      throw new NotFoundError('Workflow run not found', { status: 404, code: 'not_found', runId });
    }
    return normalizeRun(payload);
  }

  // -------------------------------------------------------------------------------------------------------- sending

  /** @internal */
  protected async buildBody(request: RunRequest): Promise<Values> {
    const user = this.userOf(request);
    const inputs = await this.mapInputs(request.inputs, user, request.signal);
    const files = await this.mapFiles(request.files, user, request.signal);
    return { inputs, user, ...(files ? { files } : {}) };
  }

  /**
   * The response of Headrace's asynchronous API; null if the server does not have it, or does not know the id. The
   * request may be repeated: Headrace starts one run per key, and other servers start none. @internal
   */
  protected sendToHeadrace(
    request: CreateRunRequest,
    body: Values,
    mode: 'async' | 'blocking',
  ): Promise<HttpResponse | null> {
    return this.#sendToHeadrace(request, body, mode, request.idempotencyKey, (call) => this.transport.send(call));
  }

  /** The same for a stream. @internal */
  protected async openHeadraceStream(request: RunRequest, body: Values, key: string): Promise<ResponseStream | null> {
    let stream: ResponseStream | null = null;
    const accepted = await this.#sendToHeadrace(request, body, 'streaming', key, async (call) => {
      stream = await this.transport.open(call);
      return stream;
    });
    if (!accepted) (stream as ResponseStream | null)?.close();
    return accepted;
  }

  async #sendToHeadrace<R extends HttpResponse | ResponseStream>(
    request: RunRequest,
    body: Values,
    mode: string,
    key: string | undefined,
    send: (call: Call) => Promise<R>,
  ): Promise<R | null> {
    const id = request.workflowId ?? '';
    if (!id || this.serverState.hasAsyncApi === false || this.serverState.placeholders.has(id)) return null;
    const idempotencyKey = key ?? (await randomUuid());
    const response = await this.#withHint(id, () =>
      send({
        method: 'POST',
        path: `/api/v1/workflows/${encodeSegment(id)}/run`,
        json: { ...body, response_mode: mode },
        headers: { 'Idempotency-Key': idempotencyKey },
        repeat: 'always',
        accept: (status, headers) => this.isForeign(status, headers) || (status === 404 && !UUID.test(id)),
        signal: request.signal,
        timeout: request.timeout,
      }),
    );
    if (this.detectAsyncApi(response)) {
      if (response.status < 300) return response;
      this.serverState.placeholders.add(id);
    }
    return null;
  }

  /** The response under `/v1`. The request is repeated only if it did not reach the server. @internal */
  protected sendToDify<T>(
    request: RunRequest,
    body: Values,
    mode: 'blocking' | 'streaming',
    send: (call: Call) => Promise<T>,
  ): Promise<T> {
    const id = request.workflowId && UUID.test(request.workflowId) ? request.workflowId : '';
    return this.#withHint(id, () =>
      send({
        method: 'POST',
        path: id ? `/v1/workflows/${encodeSegment(id)}/run` : '/v1/workflows/run',
        json: { ...body, response_mode: mode },
        repeat: 'unsent',
        signal: request.signal,
        timeout: request.timeout,
      }),
    );
  }

  async #withHint<T>(workflowId: string, send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      if (error instanceof NotFoundError && workflowId && !error.message.endsWith(HINT)) error.message += HINT;
      throw error;
    }
  }

  /** @internal */
  protected async startStream(request: RunRequest, body: Values, key?: string): Promise<ResponseStream> {
    const stream = await this.openHeadraceStream(request, body, key ?? (await randomUuid()));
    return stream ?? this.sendToDify(request, body, 'streaming', (call) => this.transport.open(call));
  }

  /** `reopen`: requests the same stream from its start, without starting a second run. */
  protected stream(
    request: UserOptions,
    start: () => Promise<ResponseStream>,
    more: {
      plan?: Plan;
      reopen?: () => Promise<ResponseStream | null>;
      runId?: string;
      ends?: ReadonlySet<string>;
    } = {},
  ): EventStream<WorkflowEvent> {
    const reader = new EventReader(more.ends ?? WORKFLOW_ENDS);
    reader.runId = more.runId ?? null;
    const { signal } = request;
    return new EventStream<WorkflowEvent>(
      {
        start,
        pause: (attempt) => this.transport.sleep(this.transport.pause(attempt), signal),
        resume: (reader) => this.#resume(reader, signal, more.reopen),
        fetchOutcome: (reader) => this.#fetchOutcome(reader, more.plan ?? this.plan(undefined), signal),
      },
      reader,
    );
  }

  async #resume(
    reader: EventReader,
    signal: AbortSignal | undefined,
    reopen: (() => Promise<ResponseStream | null>) | undefined,
  ): Promise<ResponseStream | null> {
    if (reader.lastEventId !== null) this.serverState.hasAsyncApi = true;
    if (!reader.runId) {
      const stream = this.serverState.hasAsyncApi && !reader.eventCount ? await reopen?.() : null;
      if (stream) return stream;
      throw new StreamInterruptedError('nothing is known about the run: it may or may not have started');
    }
    if (!reader.eventCount && reopen) return reopen();
    if (reader.lastEventId === null && reader.eventCount) return null; // a server without ids cannot resume
    if (this.serverState.hasAsyncApi === null) await this.fetchStatus(reader.runId, { signal });
    if (!this.serverState.hasAsyncApi) return null;
    return this.transport.open({
      method: 'GET',
      path: `/api/workflow-runs/${encodeSegment(reader.runId)}/events`,
      query: reader.endsAtPause ? {} : { continue_on_pause: true },
      headers: reader.lastEventId === null ? {} : { 'Last-Event-ID': reader.lastEventId },
      repeat: 'always',
      signal,
    });
  }

  async #fetchOutcome(reader: EventReader, plan: Plan, signal: AbortSignal | undefined): Promise<RawEvent[]> {
    return [toLastEvent(reader, await this.waitUntilOver(reader, plan, signal))];
  }

  /** A run, once its stream is over; it is requested at once, and then as the polling plan says. @internal */
  protected async waitUntilOver(
    reader: EventReader,
    plan: Plan,
    signal: AbortSignal | undefined,
  ): Promise<WorkflowRun> {
    const runId = reader.runId ?? '';
    const run = await this.fetchDetail(runId, { signal });
    const over = isFinal(run.status) || (run.status === 'paused' && reader.endsAtPause);
    return over ? run : this.waitForRun(runId, plan, { signal, continueOnPause: !reader.endsAtPause });
  }
}

/** `workflow_finished` or `workflow_paused`, made from a run's detail, which does not have the forms. */
export function toLastEvent(reader: EventReader, run: WorkflowRun): RawEvent {
  const paused = run.status === 'paused';
  return {
    event: paused ? 'workflow_paused' : 'workflow_finished',
    workflow_run_id: run.workflow_run_id,
    task_id: reader.taskId,
    ...(reader.messageId ? { message_id: reader.messageId, conversation_id: reader.conversationId } : {}),
    data: {
      id: run.workflow_run_id,
      workflow_id: run.workflow_id,
      status: run.status,
      outputs: run.outputs ?? {},
      error: run.error ?? null,
      elapsed_time: run.elapsed_time,
      total_tokens: run.total_tokens,
      total_steps: run.total_steps,
      created_at: run.created_at,
      finished_at: run.finished_at,
      ...(paused ? { workflow_run_id: run.workflow_run_id, paused_nodes: [], reasons: [] } : {}),
    },
  };
}

export function waitTimeoutError(runId: string | null, runStatus: string | null, plan: Plan): WaitTimeoutError {
  const message = `The run had not ended after ${formatSeconds(plan.timeout)}; its status is ${runStatus ?? 'unknown'}.`;
  return new WaitTimeoutError(message, { runId, runStatus });
}
