/** One run: its records as they are, and what its stream adds while it goes on. */

import { computed, onScopeDispose, reactive, ref, shallowRef, watch } from 'vue';
import type { Connection } from '@ui/sse';
import { ApiError, call, follow } from '../../api';
import { hasEnded, type App, type Execution, type Graph, type Run } from '../../model';
import { current } from '../../router';
import { RunFold, type Rounds } from './run-fold';
import { trace } from './steps';

const RUN_FIELDS = 'version,queue_time,first_token,key,replay_of';
const NODE_FIELDS = 'first_token,agent_log,rounds';

/** A container with the round of it that is shown. */
export interface Level {
  container: string;
  rounds: Rounds;
  round: number;
}

interface Shown {
  containers: () => string[]; // the outermost first
  roundOf: (rounds: Rounds, depth: number) => number;
}

const roundsOf = (execution: Execution | undefined): Rounds | undefined => {
  if (!execution?.rounds) return undefined;
  const { count, failed } = execution.rounds;
  return { count, current: execution.status === 'running' ? count - 1 : count, failed: new Set(failed) };
};

export function useRun(id: () => string, { containers, roundOf }: Shown) {
  const run = shallowRef<Run>();
  const app = shallowRef<App>();
  const graph = shallowRef<Graph>();
  const fold = reactive(new RunFold()) as RunFold;
  const inside = shallowRef<Execution[]>([]); // of the rounds that are shown
  const inner = shallowRef<Level[]>([]); // containers in containers, with the rounds that were loaded
  const error = ref('');
  const connection = ref<Connection>('connecting');
  let stop = new AbortController();
  onScopeDispose(() => stop.abort());

  const pathOf = (rest = ''): string => `/workflow-runs/${encodeURIComponent(id())}${rest}`;

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
      call<Run>(pathOf(), { query: { include: RUN_FIELDS }, signal }),
      call<{ data: Execution[] }>(pathOf('/node-executions'), {
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
    for await (const event of follow(pathOf('/events'), options, { continue_on_pause: 'true' })) {
      const ended = fold.apply(JSON.parse(event.data));
      const { status } = fold;
      if (status && run.value && run.value.status !== status) run.value = { ...run.value, status };
      if (ended) break;
    }
    if (signal.aborted) return;
    await refresh(signal);
    await loadRound();
  }

  /** The outermost container and its round: known at once, where those inside have to be loaded. */
  const outer = computed<Level | null>(() => {
    const container = containers()[0];
    const rounds = container && fold.rounds.get(container);
    return rounds ? { container, rounds, round: roundOf(rounds, 0) } : null;
  });
  const levels = computed(() => (outer.value ? [outer.value, ...inner.value] : []));

  let roundLoad = 0;
  async function loadRound(): Promise<void> {
    const own = ++roundLoad;
    const executions: Execution[] = [];
    const nested: Level[] = [];
    try {
      const { signal } = stop;
      let path = '';
      for (const [depth, container] of containers().entries()) {
        const rounds = depth ? roundsOf(executions.find((item) => item.node_id === container)) : outer.value?.rounds;
        if (!rounds?.count || !run.value) break;
        const level = { container, rounds, round: roundOf(rounds, depth) };
        if (depth) nested.push(level);
        path += container;
        const query = { parent: path, round: level.round, include: NODE_FIELDS };
        const { data } = await call<{ data: Execution[] }>(pathOf('/node-executions'), { query, signal });
        executions.push(...data);
        path += `[${level.round}]/`;
      }
      if (own !== roundLoad) return;
      inside.value = executions;
      inner.value = nested;
    } catch (failure) {
      if (stop.signal.aborted) return;
      if (!(failure instanceof ApiError)) throw failure;
      error.value = failure.message;
    }
  }

  watch(id, () => void load(), { immediate: true });
  watch(
    () => [run.value?.id, outer.value?.round, current.value.query.get('round'), ...containers()].join(),
    () => void loadRound(),
  );
  // the round that goes on is read again with each step that ends in it
  watch(
    () => {
      const { last } = fold;
      if (!last) return 0;
      const [first, ...others] = containers();
      const isShown = last.container === first ? last.round === outer.value?.round : others.includes(last.container);
      return isShown ? last.count : 0;
    },
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

  return { run, app, graph, fold, traced, levels, error, connection, reload: load };
}
