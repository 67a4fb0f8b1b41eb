/** A run again: its inputs in a version of choice, or the same version from one of its steps on. */

import { call } from '../../api';
import type { GraphEdge, Run } from '../../model';
import type { Step } from '../run/steps';
import { inputsOf, isChanged, valueOf, type Editable } from './values';

interface Accepted {
  workflow_run_id: string;
}

/** A step and all that may run after it. */
export function following(edges: GraphEdge[], id: string): Set<string> {
  const reached = new Set([id]);
  for (const source of reached) {
    for (const edge of edges) if (edge.source === source) reached.add(edge.target);
  }
  return reached;
}

/** Steps that a run can be run again from: those outside containers that it reached. */
export const beginnings = (steps: Step[]): Step[] => steps.filter((step) => !step.node.parent_id && step.execution);

export async function replay(run: Run, version: string, inputs: Editable[]): Promise<string> {
  const json = { version, ...(inputs.some(isChanged) ? { inputs: inputsOf(inputs) } : {}) };
  return (await call<Accepted>(`/workflow-runs/${run.id}/replay`, { json })).workflow_run_id;
}

/** `changed`: outputs of reused steps by their ids. */
export async function fork(run: Run, node_id: string, changed: ReadonlyMap<string, Editable[]>): Promise<string> {
  const outputs: Record<string, Record<string, unknown>> = {};
  for (const [id, items] of changed) {
    const own = items.filter(isChanged).map((item) => [item.name, valueOf(item)]);
    if (own.length) outputs[id] = Object.fromEntries(own);
  }
  return (await call<Accepted>(`/workflow-runs/${run.id}/fork`, { json: { node_id, outputs } })).workflow_run_id;
}
