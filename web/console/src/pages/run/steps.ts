/** The steps of a run: the graph's nodes with what each did, in the order in which they are listed. */

import type { State } from '@ui/states';
import { hasEnded, isOpen, type Execution, type Graph, type GraphEdge, type GraphNode, type RunStatus } from '../../model';

export interface Step {
  id: string;
  node: GraphNode;
  execution: Execution | null;
  state: State;
  isContainer: boolean;
}

export const CONTAINERS = new Set(['iteration', 'loop']);
/** Nodes that only mark where a container's graph begins or ends. */
export const MARKS = new Set(['iteration-start', 'loop-start', 'loop-end']);
const isNote = (node: GraphNode): boolean => node.type === '' || node.text !== undefined;

const STATES: Record<Execution['status'], State> = {
  running: 'running',
  paused: 'waiting',
  succeeded: 'done',
  failed: 'failed',
  exception: 'partial-succeeded',
  stopped: 'stopped',
};

/** The handle by which a node was left, or null where any may have been. */
function handleOf(execution: Execution): string | null {
  if (execution.status === 'exception') return execution.outputs?.error_message === undefined ? null : 'fail-branch';
  const chosen = execution.outputs?.selected_case_id ?? execution.outputs?.class_id ?? execution.outputs?.__action_id;
  return typeof chosen === 'string' ? chosen : null;
}

function leads(edge: GraphEdge, source: Execution | undefined): boolean {
  if (!source || isOpen(source.status) || source.status === 'failed' || source.status === 'stopped') return false;
  const handle = handleOf(source);
  if (handle !== null) return edge.source_handle === handle;
  return source.status === 'exception' || edge.source_handle !== 'fail-branch';
}

export type EdgeState = 'took' | 'now' | 'not';

export interface Trace {
  steps: Step[];
  notes: GraphNode[];
  edgeState: (edge: GraphEdge) => EdgeState;
}

export function trace(graph: Graph, executions: ReadonlyMap<string, Execution>, status: RunStatus): Trace {
  const ended = hasEnded(status);
  const nodes = graph.nodes.filter((node) => !isNote(node));
  const incoming = new Map<string, GraphEdge[]>();
  for (const edge of graph.edges) incoming.set(edge.target, [...(incoming.get(edge.target) ?? []), edge]);

  // a node is skipped once all that leads to it has gone elsewhere
  const dead = new Map<string, boolean>();
  function isDead(id: string): boolean {
    const known = dead.get(id);
    if (known !== undefined) return known;
    dead.set(id, false); // of a circle, no part alone is the reason
    const edges = incoming.get(id) ?? [];
    const value =
      !executions.has(id) &&
      edges.length > 0 &&
      edges.every((edge) => {
        const source = executions.get(edge.source);
        if (!source) return isDead(edge.source);
        return ['succeeded', 'exception'].includes(source.status) && !leads(edge, source);
      });
    dead.set(id, value);
    return value;
  }

  function stateOf(node: GraphNode): State {
    const execution = executions.get(node.id);
    if (execution) return status === 'paused' && execution.status === 'running' ? 'waiting' : STATES[execution.status];
    const skipped = isDead(node.id) || (ended && status !== 'failed' && status !== 'stopped');
    return skipped ? 'skipped' : 'unmet';
  }

  const steps = nodes.map((node) => ({
    id: node.id,
    node,
    execution: executions.get(node.id) ?? null,
    state: stateOf(node),
    isContainer: CONTAINERS.has(node.type),
  }));

  function edgeState(edge: GraphEdge): EdgeState {
    const target = executions.get(edge.target);
    const source = executions.get(edge.source);
    if (MARKS.has(nodeOf.get(edge.source)?.type ?? ''))
      return target ? (isOpen(target.status) ? 'now' : 'took') : 'not';
    if (!target || !leads(edge, source)) return 'not';
    return isOpen(target.status) && !ended ? 'now' : 'took';
  }

  const nodeOf = new Map(nodes.map((node) => [node.id, node]));
  return { steps: ordered(steps), notes: graph.nodes.filter(isNote), edgeState };
}

/** By start, then by place from left to right; what is inside a container comes after it. */
function ordered(steps: Step[]): Step[] {
  const place = (step: Step): number => step.node.x ?? 0;
  const compare = (a: Step, b: Step): number =>
    (a.execution?.started_at_ms ?? Infinity) - (b.execution?.started_at_ms ?? Infinity) || place(a) - place(b) || 0;
  const inside = (parent: string | null): Step[] =>
    steps
      .filter((step) => step.node.parent_id === parent && !MARKS.has(step.node.type))
      .sort((a, b) => {
        const order = compare(a, b);
        return Number.isNaN(order) ? place(a) - place(b) : order;
      })
      .flatMap((step) => [step, ...(step.isContainer ? inside(step.id) : [])]);
  return inside(null);
}

export interface RoundMark {
  first: number; // the round, or the first of a bin
  last: number;
  state: 'f' | 'r' | 'q' | '';
}

const MOST_MARKS = 60;

/** One mark a round; above 60 rounds a mark is a bin of them, and red if one of them failed. */
export function roundMarks(count: number, done: number, failed: ReadonlySet<number>, running: boolean): RoundMark[] {
  const size = Math.ceil(count / MOST_MARKS) || 1;
  const marks: RoundMark[] = [];
  for (let first = 0; first < count; first += size) {
    const last = Math.min(count, first + size) - 1;
    let state: RoundMark['state'] = first < done ? '' : 'q';
    if (running && first <= done && done <= last) state = 'r';
    for (let round = first; round <= last; round += 1) if (failed.has(round)) state = 'f';
    marks.push({ first, last, state });
  }
  return marks;
}
