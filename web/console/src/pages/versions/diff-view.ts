/** A comparison of two graphs, as the graph and the list below it show it. */

import { computed } from 'vue';
import type { Graph, GraphEdge } from '../../model';
import { cardsOf, CHANGES, edgeKey, type Change, type FileDiff } from './version-diff';
import { t } from './messages';

export interface Compared {
  old: Graph;
  graph: Graph; // both overlaid
  diff: FileDiff;
}

export function useDiffView(compared: () => Compared | undefined) {
  const cards = computed(() => {
    const both = compared();
    if (!both) return [];
    const titles = new Map([...both.old.nodes, ...both.graph.nodes].map((node) => [node.id, node.title]));
    return cardsOf(both.diff, t.value, (id) => titles.get(id) ?? id);
  });
  const changes = computed(
    () => new Map(cards.value.flatMap((card) => (card.node && card.change ? [[card.node.id, card.change]] : []))),
  );
  const edgeChanges = computed(() => {
    const edges = compared()?.diff.edges;
    const keyed = (change: Change, list: Parameters<typeof edgeKey>[0][] = []) =>
      list.map((edge) => [edgeKey(edge), change] as const);
    return new Map([...keyed('added', edges?.added), ...keyed('removed', edges?.removed)]);
  });
  const edgeChange = (edge: GraphEdge): Change | null => edgeChanges.value.get(edgeKey(edge)) ?? null;
  const counts = computed(() =>
    CHANGES.map((change) => ({ change, count: [...changes.value.values()].filter((item) => item === change).length })),
  );

  function show(id: string): void {
    const card = document.querySelector<HTMLElement>(`[data-change="${CSS.escape(id)}"]`);
    card?.focus({ preventScroll: true });
    card?.scrollIntoView({ block: 'start' });
  }

  return { cards, changes, edgeChange, counts, show };
}
