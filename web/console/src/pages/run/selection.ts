/** One selection for all views: the step and the round that the address names, else what most likely matters. */

import { computed, shallowRef, type Ref, type ShallowRef } from 'vue';
import type { Graph, Run } from '../../model';
import { current, href, setQuery } from '../../router';
import type { RunFold, Rounds } from './run-fold';
import type { Step, Trace } from './steps';

interface Sources {
  run: ShallowRef<Run | undefined>;
  graph: ShallowRef<Graph | undefined>;
  trace: Readonly<Ref<Trace | undefined>>;
  fold: RunFold;
}

export function useSelection() {
  const sources = shallowRef<Sources>();
  const steps = computed(() => sources.value?.trace.value?.steps ?? []);

  /** Where a run failed; while it goes on, where it is. */
  const main = computed<Step | null>(() => {
    const run = sources.value?.run.value;
    if (!run) return null;
    const failed = run.error_node?.node_id;
    if (run.status === 'failed') {
      const named = failed && steps.value.find((step) => step.id === failed);
      return named || (steps.value.find((step) => step.state === 'failed') ?? null);
    }
    return steps.value.findLast((step) => step.state === 'running' || step.state === 'waiting') ?? null;
  });

  const step = computed<Step | null>(() => {
    const id = current.value.query.get('step');
    const chosen = id && steps.value.find((item) => item.id === id);
    return chosen || main.value || (steps.value.findLast((item) => item.execution && !item.node.parent_id) ?? null);
  });

  /** The container whose rounds are shown: the one that the chosen step is or is in, else the first. */
  const container = computed<string | null>(() => {
    const graph = sources.value?.graph.value;
    if (!graph) return null;
    const known = sources.value!.fold.rounds;
    const id = current.value.query.get('step') ?? sources.value!.run.value?.error_node?.node_id;
    const node = graph.nodes.find((item) => item.id === id);
    if (node && known.has(node.id)) return node.id;
    if (node?.parent_id && known.has(node.parent_id)) return node.parent_id;
    return graph.nodes.find((item) => known.has(item.id))?.id ?? null;
  });
  const rounds = computed<Rounds | null>(
    () => (container.value && sources.value?.fold.rounds.get(container.value)) || null,
  );

  /** Without one in the address: the first that failed, else the one that goes on or was the last. */
  const round = computed(() => {
    const known = rounds.value;
    if (!known) return 0;
    const text = current.value.query.get('round');
    const named = text === null ? NaN : Number(text) - 1;
    const chosen = Number.isInteger(named) && named >= 0 ? named : [...known.failed].sort((a, b) => a - b)[0];
    return Math.max(0, Math.min(known.count - 1, chosen ?? known.current));
  });

  const address = (id: string): string => {
    const { path, query } = current.value;
    return href(path, { ...Object.fromEntries(query), step: id });
  };

  return {
    step,
    steps,
    main,
    container,
    containerStep: computed(() => steps.value.find((item) => item.id === container.value) ?? null),
    rounds,
    round,
    address,
    chooseRound: (chosen: number) => setQuery({ round: chosen + 1 }),
    bind: (run: Sources['run'], graph: Sources['graph'], trace: Sources['trace'], fold: RunFold) => {
      sources.value = { run, graph, trace, fold };
    },
  };
}
