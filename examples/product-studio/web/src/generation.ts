import { computed, onScopeDispose, reactive, readonly } from 'vue';
import { StreamRefused, type Connection } from '@ui/sse';
import { followRun, Refused, startRun, STEPS, stopRun, type Progress, type Reason, type StepName } from './api';
import { isRecord, load, store } from './storage';

export type Phase = 'idle' | 'starting' | 'running' | 'waiting' | 'reconnecting' | 'stopping' | 'finished' | 'stopped' | 'failed';

/** `since`: when it began, by this page's clock (performance.now). */
export interface Step {
  state: 'queued' | 'running' | 'done' | 'failed' | 'stopped';
  seconds: number;
  since: number;
}

/** A failure that the server has a reason for; or the connection to the server itself. */
export type Failure = Reason | 'offline';

interface Run {
  runId: string;
  taskId: string | null;
  title: string;
}

export type Finished = Extract<Progress, { kind: 'finished' }>;

export interface Generation {
  readonly phase: Phase;
  readonly steps: Readonly<Record<StepName, Readonly<Step>>>;
  readonly failure: Failure | null;
  readonly runId: string | null;
  /** The page on which the person whom the run waits for answers. */
  readonly formUrl: string | null;
  /** The title of a failed run, which is continued if it is started again with that title. */
  readonly failedTitle: string | null;
  /** The run was left, but the server did not confirm that it stopped it. */
  readonly stopUnconfirmed: boolean;
  /** It finished, but its picture could not be fetched. */
  readonly pictureMissing: boolean;
}

const STORED = 'studio-run';

function isRun(value: unknown): value is Run {
  return (
    isRecord(value) &&
    typeof value.runId === 'string' &&
    typeof value.title === 'string' &&
    (value.taskId === null || typeof value.taskId === 'string')
  );
}

function initial() {
  const steps = Object.fromEntries(STEPS.map((name) => [name, { state: 'queued', seconds: 0, since: 0 }]));
  return {
    phase: 'idle' as Phase,
    steps: steps as Record<StepName, Step>,
    failure: null as Failure | null,
    runId: null as string | null,
    formUrl: null as string | null,
    failedTitle: null as string | null,
    stopUnconfirmed: false,
    pictureMissing: false,
  };
}

const RANKS: Record<Step['state'], number> = { queued: 0, running: 1, done: 2, stopped: 2, failed: 2 };

/**
 * One run of the workflow after another. A run that has begun is kept: its id is stored, and it is followed again after
 * a lost connection or a reload until its end is known or it is stopped.
 */
export function useGeneration(onText: (text: string, title: string) => void, onFinish: (result: Finished, title: string) => void) {
  const state = reactive(initial());
  let run: Run | null = null;
  let connection: AbortController | null = null;
  let text = '';
  let shownLength = 0;

  const isBusy = computed(() => ['starting', 'running', 'waiting', 'reconnecting', 'stopping'].includes(state.phase));

  async function start(title: string): Promise<void> {
    if (isBusy.value) return;
    const retried = state.failedTitle === title ? run : null;
    const own = begin('starting');
    try {
      for await (const progress of startRun(title, retried?.runId ?? null, own.signal)) {
        if (progress.kind === 'interrupted') break;
        if (apply(progress, title)) return;
      }
      if (!run && !own.signal.aborted) return fail('unreachable', null, retried);
    } catch (error) {
      if (own.signal.aborted) return;
      if (!run) return fail(toFailure(error), error, retried);
      // the run continues without this connection
    }
    if (run && !own.signal.aborted) await follow(run, own);
  }

  /** Follows the run that was not over when this page was last closed. Its title, or null if there is none. */
  function resume(): string | null {
    const stored = load(STORED, isRun);
    if (!stored) return null;
    void follow(stored, begin('starting'));
    return stored.title;
  }

  /** Connects again at once. */
  function reconnect(): void {
    if (!run || state.phase !== 'reconnecting') return;
    connection?.abort();
    void follow(run, (connection = new AbortController()));
  }

  async function follow(followed: Run, own: AbortController): Promise<void> {
    keep(followed);
    const onConnection = (status: Connection) => {
      if (status === 'open') text = '';
      if (state.phase === 'stopping') return;
      if (status === 'open') state.phase = 'running';
      else if (status === 'reconnecting' || ['running', 'waiting'].includes(state.phase)) state.phase = 'reconnecting';
    };
    try {
      for await (const progress of followRun(followed.runId, { signal: own.signal, onConnection }))
        if (apply(progress, followed.title)) return;
    } catch (error) {
      if (!own.signal.aborted) fail(error instanceof StreamRefused ? 'gone' : toFailure(error), error);
    }
  }

  /** Stops the run on the server. If that cannot be reached, the run is only left. */
  async function stop(): Promise<void> {
    if (!isBusy.value || state.phase === 'stopping') return;
    state.phase = 'stopping';
    if (run?.taskId) {
      try {
        await stopRun(run.taskId);
      } catch (error) {
        console.error('The run could not be stopped.', error);
        state.stopUnconfirmed = true;
      }
    }
    if (isBusy.value) end('stopped');
  }

  /** Forgets how the last run went. */
  function clear(): void {
    if (!isBusy.value) Object.assign(state, initial());
  }

  function begin(phase: Phase): AbortController {
    connection?.abort();
    Object.assign(state, initial(), { phase });
    run = null;
    text = '';
    shownLength = 0;
    return (connection = new AbortController());
  }

  /** Whether this is the run's last event. A run that is followed again repeats its events: none takes anything back. */
  function apply(progress: Progress, title: string): boolean {
    if (state.phase === 'waiting') state.phase = 'running';
    switch (progress.kind) {
      case 'started':
        text = '';
        keep({ runId: progress.run_id, taskId: progress.task_id ?? run?.taskId ?? null, title });
        if (state.phase === 'starting') state.phase = 'running';
        return false;
      case 'step':
        note(progress.step, progress.state, progress.seconds);
        return false;
      case 'text':
        text += progress.text;
        if (text.length >= shownLength) {
          shownLength = text.length;
          onText(text, title);
        }
        return false;
      case 'waiting':
        state.formUrl = progress.form_url;
        if (state.phase === 'running') state.phase = 'waiting';
        return false;
      case 'finished':
        state.pictureMissing = !progress.picture_id;
        for (const step of Object.values(state.steps)) step.state = 'done';
        end('finished');
        onFinish(progress, title);
        return true;
      case 'failed':
        if (progress.reason === 'stopped') end('stopped');
        else fail(progress.reason);
        return true;
      case 'interrupted':
        return false; // the connection ends now, and the run is followed again
    }
  }

  function note(name: StepName, next: Exclude<Step['state'], 'queued' | 'stopped'>, seconds: number): void {
    const step = state.steps[name];
    if (RANKS[next] <= RANKS[step.state]) return;
    Object.assign(step, { state: next, seconds, since: performance.now() - seconds * 1000 });
  }

  function keep(value: Run): void {
    run = value;
    state.runId = value.runId;
    store(STORED, value);
  }

  function end(phase: 'finished' | 'stopped' | 'failed'): void {
    state.phase = phase;
    for (const step of Object.values(state.steps)) if (step.state === 'running') step.state = 'stopped';
    connection?.abort();
    store(STORED, null);
  }

  /** `failed`: the run that the next attempt continues. */
  function fail(failure: Failure, cause: unknown = null, failed: Run | null = run): void {
    run = failed;
    state.failedTitle = run?.title ?? null;
    console.error(`Generation failed: ${failure}`, ...(state.runId ? [`run ${state.runId}`] : []), ...(cause ? [cause] : []));
    state.failure = failure;
    end('failed');
  }

  function toFailure(error: unknown): Failure {
    if (!(error instanceof Refused)) return 'offline';
    return error.status === 422 ? 'title' : 'service';
  }

  onScopeDispose(() => connection?.abort());
  return { state: readonly(state), isBusy, start, stop, resume, reconnect, clear };
}
