/** One selection for all views: the step and the round that the address names, else what most likely matters. */

import { computed, shallowRef, type Ref, type ShallowRef } from 'vue';
import type { Graph, Run } from '../../model';
import { current, href, setQuery } from '../../router';
import type { RunFold, Rounds } from './run-fold';
import { CONTAINERS, type Step, type Trace } from './steps';

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

  /** The containers whose rounds are shown, the outermost first: those that the chosen step is in, and it itself where it
   * is one, else the first; then the first in each. */
  const containers = computed<string[]>(() => {
    const graph = sources.value?.graph.value;
    if (!graph) return [];
    const known = sources.value!.fold.rounds;
    const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
    const id = current.value.query.get('step') ?? sources.value!.run.value?.error_node?.node_id;
    let chain: string[] = [];
    for (let node = nodes.get(id ?? ''); node; node = nodes.get(node.parent_id ?? '')) {
      if (CONTAINERS.has(node.type)) chain.unshift(node.id);
    }
    if (!known.has(chain[0] ?? '')) {
      chain = graph.nodes
        .filter((node) => !node.parent_id && known.has(node.id))
        .map((node) => node.id)
        .slice(0, 1);
    }
    for (const last of chain) {
      const next = graph.nodes.find((node) => node.parent_id === last && CONTAINERS.has(node.type));
      if (next && last === chain.at(-1)) chain.push(next.id);
    }
    return chain;
  });

  /** Rounds of the address, as in `round=3.1`: one for each container, counted from 1. */
  const named = computed(() => (current.value.query.get('round') ?? '').split('.').map((text) => Number(text) - 1));

  /** Of a container at a depth. Without one in the address: the first that failed, else the one that goes on or was the
   * last. */
  function roundOf(known: Rounds, depth: number): number {
    const asked = named.value[depth];
    const isNamed = asked !== undefined && Number.isInteger(asked) && asked >= 0;
    const chosen = isNamed ? asked : [...known.failed].sort((a, b) => a - b)[0];
    return Math.max(0, Math.min(known.count - 1, chosen ?? known.current));
  }

  const address = (id: string): string => {
    const { path, query } = current.value;
    return href(path, { ...Object.fromEntries(query), step: id });
  };

  return {
    step,
    steps,
    main,
    containers,
    roundOf,
    address,
    /** `rounds` of the containers, from the outermost to the one of which another round is chosen. */
    chooseRound: (rounds: number[]) => setQuery({ round: rounds.map((round) => round + 1).join('.') }),
    bind: (run: Sources['run'], graph: Sources['graph'], trace: Sources['trace'], fold: RunFold) => {
      sources.value = { run, graph, trace, fold };
    },
  };
}
