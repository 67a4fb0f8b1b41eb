import { Core, segment } from './core.js';
import type { UserOptions } from './core.js';
import { NotFoundError, StreamInterruptedError, WaitTimeoutError, secondsOf } from './errors.js';
import type { WorkflowEvent } from './events.js';
import type { Answer, Stream } from './http-request.js';
import { isFinal, raiseForStatus, runOf } from './models.js';
import type { Values, WorkflowRun } from './models.js';
import type { CallOptions, Plan } from './options.js';
import { Reader, WORKFLOW_ENDS } from './event-reader.js';
import { randomUuid } from './platform.js';
import type { Told } from './event-reader.js';
import type { CreateRunRequest, RunRequest, WaitOptions } from './requests.js';
import { EventStream } from './streams.js';
import { parse } from './transport.js';
import type { Call } from './transport.js';

const UUID = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;
const HOLD = 20; // seconds that Headrace is asked to hold a look at a run that is waited for
const SPARE = 30; // seconds more for that answer to come
const HINT =
  " On Dify, a workflow's id is that of one published version (not the app's id in the studio's address); " +
  'leave workflowId out to run the published one.';

/** Runs asked for, followed and looked at, through whichever API the server has. */
export class Asking extends Core {
  // -------------------------------------------------------------------------------------------------------- waiting

  /** @internal */
  protected async waited(run: string, plan: Plan, options: WaitOptions, hold = false): Promise<WorkflowRun> {
    const { clock, sleep } = this.transport;
    const { signal } = options;
    const until = clock() + plan.timeout;
    let interval = plan.first;
    let status: string | null = null;
    for (let left = plan.timeout; left > 0; left = until - clock()) {
      let told: WorkflowRun;
      if (hold) {
        const wait = Math.min(HOLD, left);
        const asked = clock();
        told = await this.look(run, { signal, timeout: wait + SPARE }, wait);
        hold = clock() - asked >= Math.min(1, wait); // else something in between does not let it hold
      } else {
        await sleep(Math.min(interval, left), signal);
        interval = Math.min(plan.longest, interval * plan.factor);
        told = await this.look(run, { signal });
      }
      if (isFinal(told.status)) return options.raiseOnFailure ? raiseForStatus(told) : told;
      status = told.status;
    }
    throw tooLong(run, status, plan);
  }

  /** @internal */
  protected async look(run: string, options: CallOptions, wait?: number): Promise<WorkflowRun> {
    if (this.known.headrace !== false) {
      const answer = await this.transport.send({
        method: 'GET',
        path: `/api/workflow-runs/${segment(run)}`,
        query: { wait: wait?.toFixed(3) },
        repeat: 'always',
        accept: (status, headers) => this.foreign(status, headers),
        signal: options.signal,
        timeout: options.timeout,
      });
      if (this.learn(answer)) return runOf(parse<Values>(answer));
    }
    return this.detail(run, options);
  }

  /** @internal */
  protected async detail(run: string, options: CallOptions): Promise<WorkflowRun> {
    const told = await this.get<Values>(`/v1/workflows/run/${segment(run)}`, options);
    if (!told['id'] && !told['status']) {
      // Dify's way to say so
      throw new NotFoundError('Workflow run not found', { status: 404, code: 'not_found', runId: run });
    }
    return runOf(told);
  }

  // -------------------------------------------------------------------------------------------------------- sending

  /** @internal */
  protected async bodyOf(request: RunRequest): Promise<Values> {
    const user = this.userOf(request);
    const inputs = await this.inputsOf(request.inputs, user, request.signal);
    const files = await this.filesOf(request.files, user, request.signal);
    return { inputs, user, ...(files ? { files } : {}) };
  }

  /**
   * Headrace's answer to a request to run; null where this server has no asynchronous API, or the id is none that it
   * could know. It may be repeated: with its key, Headrace makes one run only, and others make none. @internal
   */
  protected askHeadrace(request: CreateRunRequest, body: Values, mode: 'async' | 'blocking'): Promise<Answer | null> {
    return this.#ask(request, body, mode, request.idempotencyKey, (call) => this.transport.send(call));
  }

  /** The same, of a stream. @internal */
  protected async openHeadrace(request: RunRequest, body: Values, key: string): Promise<Stream | null> {
    let refused: Stream | null = null;
    const answer = await this.#ask(request, body, 'streaming', key, async (call) => {
      refused = await this.transport.open(call);
      return refused;
    });
    if (!answer) (refused as Stream | null)?.close();
    return answer;
  }

  async #ask<A extends Answer | Stream>(
    request: RunRequest,
    body: Values,
    mode: string,
    key: string | undefined,
    send: (call: Call) => Promise<A>,
  ): Promise<A | null> {
    const id = request.workflowId ?? '';
    if (!id || this.known.headrace === false || this.known.placeholders.has(id)) return null;
    const idempotencyKey = key ?? (await randomUuid());
    const answer = await this.#hinted(id, () =>
      send({
        method: 'POST',
        path: `/api/v1/workflows/${segment(id)}/run`,
        json: { ...body, response_mode: mode },
        headers: { 'Idempotency-Key': idempotencyKey },
        repeat: 'always',
        accept: (status, headers) => this.foreign(status, headers) || (status === 404 && !UUID.test(id)),
        signal: request.signal,
        timeout: request.timeout,
      }),
    );
    if (this.learn(answer)) {
      if (answer.status < 300) return answer;
      this.known.placeholders.add(id);
    }
    return null;
  }

  /** The answer to a request to run under `/v1`, which is sent again only where it did not arrive. @internal */
  protected askDify<T>(
    request: RunRequest,
    body: Values,
    mode: 'blocking' | 'streaming',
    send: (call: Call) => Promise<T>,
  ): Promise<T> {
    const id = request.workflowId && UUID.test(request.workflowId) ? request.workflowId : '';
    return this.#hinted(id, () =>
      send({
        method: 'POST',
        path: id ? `/v1/workflows/${segment(id)}/run` : '/v1/workflows/run',
        json: { ...body, response_mode: mode },
        repeat: 'unsent',
        signal: request.signal,
        timeout: request.timeout,
      }),
    );
  }

  async #hinted<T>(workflowId: string, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof NotFoundError && workflowId && !error.message.endsWith(HINT)) error.message += HINT;
      throw error;
    }
  }

  /** @internal */
  protected async begin(request: RunRequest, body: Values, key?: string): Promise<Stream> {
    const stream = await this.openHeadrace(request, body, key ?? (await randomUuid()));
    return stream ?? this.askDify(request, body, 'streaming', (call) => this.transport.open(call));
  }

  /** `again`: asks for the same stream from its beginning, without a second run. */
  protected stream(
    request: UserOptions,
    start: () => Promise<Stream>,
    more: { plan?: Plan; again?: () => Promise<Stream | null>; runId?: string } = {},
  ): EventStream<WorkflowEvent> {
    const reader = new Reader(WORKFLOW_ENDS);
    reader.runId = more.runId ?? null;
    const { signal } = request;
    return new EventStream<WorkflowEvent>(
      {
        start,
        pause: (fruitless) => this.transport.sleep(this.transport.pause(fruitless), signal),
        resume: (told) => this.#resume(told, signal, more.again),
        outcome: (told) => this.#outcome(told, more.plan ?? this.plan(undefined), signal),
      },
      reader,
    );
  }

  async #resume(
    reader: Reader,
    signal: AbortSignal | undefined,
    again: (() => Promise<Stream | null>) | undefined,
  ): Promise<Stream | null> {
    if (reader.place !== null) this.known.headrace = true;
    if (!reader.runId) {
      const anew = this.known.headrace && !reader.told ? await again?.() : null;
      if (anew) return anew;
      throw new StreamInterruptedError('nothing is known of the run: it may or may not have begun');
    }
    if (reader.place === null && reader.told) return null; // a server without ids has nothing to go on from
    if (this.known.headrace === null) await this.look(reader.runId, { signal });
    if (!this.known.headrace) return null;
    return this.transport.open({
      method: 'GET',
      path: `/api/workflow-runs/${segment(reader.runId)}/events`,
      headers: reader.place === null ? {} : { 'Last-Event-ID': reader.place },
      repeat: 'always',
      signal,
    });
  }

  async #outcome(reader: Reader, plan: Plan, signal: AbortSignal | undefined): Promise<Told[]> {
    return [finishedBy(reader, await this.ended(reader.runId ?? '', plan, signal))];
  }

  /** A run once it has ended: looked at at once, then as the plan says. @internal */
  protected async ended(run: string, plan: Plan, signal: AbortSignal | undefined): Promise<WorkflowRun> {
    const now = await this.detail(run, { signal });
    return isFinal(now.status) ? now : this.waited(run, plan, { signal });
  }
}

/** `workflow_finished`, made from a run's detail. */
export function finishedBy(reader: Reader, run: WorkflowRun): Told {
  return {
    event: 'workflow_finished',
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
    },
  };
}

export function tooLong(runId: string | null, runStatus: string | null, plan: Plan): WaitTimeoutError {
  const message = `The run had not ended after ${secondsOf(plan.timeout)}; it is ${runStatus ?? 'not known how it stands'}.`;
  return new WaitTimeoutError(message, { runId, runStatus });
}
