/** Two runs, step by step. */

import type { Execution, Graph } from '../../model';
import type { Step } from '../run/steps';

export interface Pair {
  id: string;
  title: string;
  left: Step | null;
  right: Step | null;
  differs: Set<'state' | 'outputs'>;
}

/** What is inside containers differs from round to round, and is compared by the containers' outputs. */
export const outermost = (graph: Graph): Graph => {
  const nodes = graph.nodes.filter((node) => !node.parent_id);
  const ids = new Set(nodes.map((node) => node.id));
  return { ...graph, nodes, edges: graph.edges.filter((edge) => ids.has(edge.source) && ids.has(edge.target)) };
};

/** System variables and what a model used differ between any two runs. */
const isCompared = (name: string): boolean => !name.startsWith('sys.') && name !== 'usage';

type Values = Record<string, unknown> | null | undefined;

/** Names whose values differ, with both values as `fieldOf` takes them. */
export function changesOf(
  left: Values,
  right: Values,
): { field: string; change: 'changed'; from: unknown; to: unknown }[] {
  const names = new Set([...Object.keys(left ?? {}), ...Object.keys(right ?? {})]);
  return [...names].flatMap((field) => {
    const [from, to] = [left?.[field], right?.[field]];
    if (!isCompared(field) || JSON.stringify(from) === JSON.stringify(to)) return [];
    return [{ field, change: 'changed' as const, from, to }];
  });
}

const errorOf = (execution: Execution | null | undefined): Values =>
  execution?.error ? { error: execution.error } : null;

/** What a step wrote, and its error. */
export const stepChanges = (pair: Pair) => {
  const [left, right] = [pair.left?.execution, pair.right?.execution];
  return [...changesOf(errorOf(left), errorOf(right)), ...changesOf(left?.outputs, right?.outputs)];
};

function pairOf(left: Step | null, right: Step | null): Pair {
  const { id, node } = (right ?? left)!;
  const pair: Pair = { id, title: node.title, left, right, differs: new Set() };
  if (left?.state !== right?.state) pair.differs.add('state');
  if (left?.execution && right?.execution && stepChanges(pair).length) pair.differs.add('outputs');
  return pair;
}

/** By node, in the order of the right run; a step that only the left one has comes after the one before it. */
export function aligned(left: Step[], right: Step[]): Pair[] {
  const lefts = new Map(left.map((step) => [step.id, step]));
  const pairs = right.map((step) => pairOf(lefts.get(step.id) ?? null, step));
  const known = new Set(right.map((step) => step.id));
  for (const [index, step] of left.entries()) {
    if (known.has(step.id)) continue;
    const before = pairs.findIndex((pair) => pair.id === left[index - 1]?.id);
    pairs.splice(before + 1, 0, pairOf(step, null));
  }
  return pairs;
}
