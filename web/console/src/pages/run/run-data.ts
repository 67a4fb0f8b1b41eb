/** One run: its records as they are, and what its stream adds while it goes on. */

import { computed, onScopeDispose, reactive, ref, shallowRef, watch } from 'vue';
import type { Connection } from '@ui/sse';
import { ApiError, call, follow } from '../../api';
import { hasEnded, type App, type Execution, type Graph, type Run } from '../../model';
import { RunFold } from './run-fold';
import { trace } from './steps';

const RUN_FIELDS = 'version,queue_time,first_token,key,replay_of';
const NODE_FIELDS = 'first_token,agent_log,rounds';

export function useRun(id: () => string, container: () => string | null, round: () => number) {
  const run = shallowRef<Run>();
  const app = shallowRef<App>();
  const graph = shallowRef<Graph>();
  const fold = reactive(new RunFold()) as RunFold;
  const inside = shallowRef<Execution[]>([]); // of the round that is shown
  const error = ref('');
  const connection = ref<Connection>('connecting');
  let stop = new AbortController();
  onScopeDispose(() => stop.abort());

  const path = (rest = ''): string => `/workflow-runs/${encodeURIComponent(id())}${rest}`;

  async function load(): Promise<void> {
    stop.abort();
    const { signal } = (stop = new AbortController());
    try {
      await refresh(signal);
      const { app_id, workflow_id } = run.value!;
      [app.value, graph.value] = await Promise.all([
        call<App>(`/apps/${app_id}`, { signal }),
        call<Graph>(`/apps/${app_id}/graph`, { query: { version: workflow_id }, signal }),
      ]);
      error.value = '';
      if (!hasEnded(run.value!.status)) await live(signal);
      else connection.value = 'open';
    } catch (failure) {
      if (signal.aborted) return;
      if (!(failure instanceof ApiError)) throw failure;
      error.value = failure.message;
    }
  }

  /** Takes the run as it is now. */
  async function refresh(signal: AbortSignal): Promise<void> {
    const [detail, executions] = await Promise.all([
      call<Run>(path(), { query: { include: RUN_FIELDS }, signal }),
      call<{ data: Execution[] }>(path('/node-executions'), {
        query: { top: 'true', include: NODE_FIELDS },
        signal,
      }),
    ]);
    run.value = detail;
    fold.take(executions.data);
  }

  /** Follows the run to its end. The stream is read from its start, since only it has the text as it came. */
  async function live(signal: AbortSignal): Promise<void> {
    const options = { signal, onConnection: (now: Connection) => (connection.value = now) };
    for await (const event of follow(path('/events'), options, { continue_on_pause: 'true' })) {
      const ended = fold.apply(JSON.parse(event.data));
      const { status } = fold;
      if (status && run.value && run.value.status !== status) run.value = { ...run.value, status };
      if (ended) break;
    }
    if (signal.aborted) return;
    await refresh(signal);
    await loadRound();
  }

  let roundLoad = 0;
  async function loadRound(): Promise<void> {
    const parent = container();
    if (!parent || !run.value) return void (inside.value = []);
    const own = ++roundLoad;
    const query = { parent, round: round(), include: NODE_FIELDS };
    try {
      const { signal } = stop;
      const { data } = await call<{ data: Execution[] }>(path('/node-executions'), { query, signal });
      if (own !== roundLoad) return;
      inside.value = data;
    } catch (failure) {
      if (stop.signal.aborted) return;
      if (!(failure instanceof ApiError)) throw failure;
      error.value = failure.message;
    }
  }

  watch(id, () => void load(), { immediate: true });
  watch([container, round, () => run.value?.id], () => void loadRound());
  // the round that goes on is read again with each step that ends in it
  watch(
    () => (fold.last?.container === container() && fold.last?.round === round() ? fold.last.count : 0),
    (count) => count && void loadRound(),
  );

  const byNode = computed(() => {
    const executions = new Map(fold.top);
    for (const execution of inside.value) executions.set(execution.node_id, execution);
    return executions;
  });
  const traced = computed(() =>
    graph.value && run.value ? trace(graph.value, byNode.value, run.value.status) : undefined,
  );

  return { run, app, graph, fold, traced, error, connection, reload: load };
}
