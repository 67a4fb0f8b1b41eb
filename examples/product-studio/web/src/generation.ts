import { onScopeDispose, reactive, readonly } from 'vue';
import { generate, Refused, stop, type Progress, type Reason } from './api';

export interface Step {
  id: string;
  title: string;
  state: 'running' | 'done' | 'failed' | 'stopped';
}

export type Standing = 'idle' | 'running' | 'cancelling' | 'finished' | 'cancelled' | 'failed';
export type Failure = { reason: Reason; node: string | null };
type Finished = Extract<Progress, { kind: 'finished' }>;

export interface Generating {
  readonly standing: Standing;
  readonly steps: readonly Readonly<Step>[];
  readonly failure: Readonly<Failure> | null;
  /** It finished, but its picture could not be had. */
  readonly pictureMissing: boolean;
}

/** One run of the workflow after another, as the page shows it. `write` is given the description as it grows. */
export function useGeneration(write: (text: string) => void, finish: (result: Finished) => void) {
  const state = reactive({
    standing: 'idle' as Standing,
    steps: [] as Step[],
    failure: null as Failure | null,
    pictureMissing: false,
  });
  let running: AbortController | null = null;
  let taskId: string | null = null;

  async function start(name: string): Promise<void> {
    if (running) return;
    const own = (running = new AbortController());
    Object.assign(state, { standing: 'running', steps: [], failure: null, pictureMissing: false });
    taskId = null;
    let text = '';
    try {
      for await (const progress of generate(name, own.signal)) {
        if (progress.kind === 'started') taskId = progress.task_id;
        else if (progress.kind === 'node') note(progress);
        else if (progress.kind === 'text') write((text += progress.text));
        else if (progress.kind === 'finished') {
          state.standing = 'finished';
          state.pictureMissing = !progress.picture_id;
          finish(progress);
        } else if (progress.reason === 'stopped') state.standing = 'cancelled';
        else fail({ reason: progress.reason, node: progress.node });
      }
      if (going()) fail({ reason: 'unreachable', node: null }); // it ended without a last word
    } catch (error) {
      if (!going()) return; // the last word was there before the connection went
      if (own.signal.aborted) state.standing = 'cancelled';
      else fail({ reason: error instanceof Refused ? 'service' : 'unreachable', node: null });
    } finally {
      running = null;
      for (const step of state.steps) if (step.state === 'running') step.state = 'stopped';
    }
  }

  /** Stops the run on the server, too: by its task, and where that fails by hanging up, which the server notices. */
  async function cancel(): Promise<void> {
    const own = running;
    if (!own || state.standing !== 'running') return;
    state.standing = 'cancelling';
    try {
      if (taskId) await stop(taskId);
    } catch {
      // hanging up is left
    }
    own.abort();
  }

  /** Forgets how the last run went. */
  function clear(): void {
    if (!running) Object.assign(state, { standing: 'idle', steps: [], failure: null, pictureMissing: false });
  }

  function going(): boolean {
    return state.standing === 'running' || state.standing === 'cancelling';
  }

  function note({ id, title, state: now }: Step): void {
    const known = state.steps.find((step) => step.id === id);
    if (known) known.state = now;
    else state.steps.push({ id, title, state: now });
  }

  function fail(failure: Failure): void {
    Object.assign(state, { standing: 'failed', failure });
  }

  onScopeDispose(() => running?.abort());
  return { state: readonly(state), start, cancel, clear };
}
