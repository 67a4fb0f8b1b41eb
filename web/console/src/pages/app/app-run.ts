/** One run after another, started here: submitted first, then followed, so that no lost connection loses it. */

import { computed, onScopeDispose, reactive, ref, shallowRef } from 'vue';
import type { Connection } from '@ui/sse';
import { ApiError, call, follow } from '../../api';
import { hasEnded, type Run } from '../../model';
import { RunFold } from '../run/run-fold';

export const USER = 'console';

interface Accepted {
  workflow_run_id: string;
}

export function useAppRun(app: string) {
  const fold = shallowRef(reactive(new RunFold()) as RunFold);
  const run = shallowRef<Run>();
  const id = ref<string | null>(null);
  const startedAt = ref(0);
  const error = ref('');
  const busy = ref(false);
  const connection = ref<Connection>('open');
  let stop = new AbortController();
  onScopeDispose(() => stop.abort());

  async function start(inputs: Record<string, unknown>): Promise<void> {
    if (busy.value) return;
    const { signal } = (stop = new AbortController());
    error.value = '';
    fold.value = reactive(new RunFold()) as RunFold;
    run.value = undefined;
    id.value = null;
    startedAt.value = Date.now();
    busy.value = true;
    try {
      const json = { inputs, user: USER };
      const headers = { 'Headrace-App': app };
      const accepted = await call<Accepted>(`/workflows/${app}/run`, { json, headers, signal });
      id.value = accepted.workflow_run_id;
      await followRun(accepted.workflow_run_id, signal);
    } catch (failure) {
      if (signal.aborted) return;
      if (!(failure instanceof ApiError)) throw failure;
      error.value = failure.message;
    } finally {
      busy.value = false;
    }
  }

  async function followRun(started: string, signal: AbortSignal): Promise<void> {
    const onConnection = (now: Connection) => (connection.value = now);
    const path = `/workflow-runs/${started}`;
    const options = { signal, onConnection };
    for await (const event of follow(`${path}/events`, options, { continue_on_pause: 'true' })) {
      if (fold.value.apply(JSON.parse(event.data))) break;
    }
    if (!signal.aborted) run.value = await call<Run>(path, { signal });
  }

  async function cancel(): Promise<void> {
    if (!id.value || !busy.value) return;
    await call(`/workflow-runs/${id.value}/stop`, { method: 'POST' });
  }

  const ended = computed(() => run.value !== undefined && hasEnded(run.value.status));
  /** The step that goes on. */
  const current = computed(() => [...fold.value.top.values()].findLast((step) => step.status === 'running') ?? null);

  return { fold, run, id, startedAt, error, busy, connection, ended, current, start, cancel };
}
