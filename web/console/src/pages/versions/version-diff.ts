/** What changed from one version of an app to another, and a graph that shows both. */

import type { Graph, GraphEdge } from '../../model';
import { textDiff, type DiffLine } from './text-diff';

export interface Version {
  id: string;
  number: number;
  created_at: number;
  current: boolean;
}

export type Change = 'added' | 'changed' | 'removed';
export const CHANGES: readonly Change[] = ['added', 'changed', 'removed'];

interface FieldChange {
  field: string;
  change: Change;
  from?: unknown;
  to?: unknown;
}
interface Named {
  id?: string;
  name?: string;
  title?: string;
  fields?: FieldChange[];
}
type Changed<T> = Record<Change, T[]>;
type DiffEdge = Pick<GraphEdge, 'source' | 'source_handle' | 'target'>;

export interface FileDiff {
  same: boolean;
  nodes: Changed<Named & { id: string; title: string; type: string }>;
  edges: { added: DiffEdge[]; removed: DiffEdge[] };
  environment_variables: Changed<Named>;
  conversation_variables: Changed<Named>;
  features: FieldChange[];
  app: FieldChange[];
}

/** The lines of one thing that changed; `node` where it is a node of the graph. */
export interface ChangeCard {
  title: string;
  change: Change | null;
  node?: { id: string; type: string };
  fields: { name: string; lines: DiffLine[] }[];
}

/** The later graph, and with it what it no longer has. */
export function overlaid(before: Graph, after: Graph, diff: FileDiff): Graph {
  const gone = new Set(diff.nodes.removed.map((node) => node.id));
  const cut = new Set(diff.edges.removed.map(edgeKey));
  const removed = before.edges.filter((edge) => cut.has(edgeKey(edge)));
  return {
    ...after,
    nodes: [...after.nodes, ...before.nodes.filter((node) => gone.has(node.id))],
    edges: [...after.edges, ...removed.map((edge) => ({ ...edge, id: `removed ${edge.id}` }))],
  };
}

export const edgeKey = (edge: DiffEdge): string => JSON.stringify([edge.source, edge.source_handle, edge.target]);

const ONE_LINE = 72; // characters of a value that is shown beside its name

const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value, null, 2));

/** Values of secrets are not in a diff: then there is only the name. */
export function fieldOf({ field, from, to }: FieldChange): ChangeCard['fields'][number] {
  const values = [from, to].filter((value) => value !== undefined).map(textOf);
  if (values.some((text) => text.length > ONE_LINE || text.includes('\n'))) {
    if (from === undefined || to === undefined) {
      const sign = from === undefined ? '+' : '−';
      return { name: field, lines: values[0]!.split('\n').map((text) => ({ sign, text })) };
    }
    return { name: field, lines: textDiff(textOf(from), textOf(to)) };
  }
  const lines: DiffLine[] = [];
  if (from !== undefined) lines.push({ sign: '−', text: `${field}: ${textOf(from)}` });
  if (to !== undefined) lines.push({ sign: '+', text: `${field}: ${textOf(to)}` });
  return lines.length ? { name: '', lines } : { name: field, lines };
}

/** `titles` name what is not a node. */
export function cardsOf(
  diff: FileDiff,
  titles: { edges: string; environment: string; conversation: string; features: string; app: string },
  nodeTitle: (id: string) => string,
): ChangeCard[] {
  const nodes = (['changed', 'added', 'removed'] as const).flatMap((change) =>
    diff.nodes[change].map((node) => ({
      title: node.title,
      change,
      node: { id: node.id, type: node.type },
      fields: (node.fields ?? []).map(fieldOf),
    })),
  );
  const edgeText = (edge: DiffEdge): string => {
    const handle = edge.source_handle === 'source' ? '' : ` (${edge.source_handle})`;
    return `${nodeTitle(edge.source)}${handle} → ${nodeTitle(edge.target)}`;
  };
  const edges: DiffLine[] = [
    ...diff.edges.removed.map((edge) => ({ sign: '−' as const, text: edgeText(edge) })),
    ...diff.edges.added.map((edge) => ({ sign: '+' as const, text: edgeText(edge) })),
  ];
  const variables = (title: string, changed: Changed<Named>): ChangeCard => ({
    title,
    change: null,
    fields: CHANGES.flatMap((change) =>
      changed[change].map(({ name = '', fields = [] }) => ({
        name: change === 'changed' ? name : '',
        lines:
          change === 'changed'
            ? fields.flatMap((field) => fieldOf(field).lines)
            : [{ sign: change === 'added' ? ('+' as const) : ('−' as const), text: name }],
      })),
    ),
  });
  const others: ChangeCard[] = [
    { title: titles.edges, change: null, fields: edges.length ? [{ name: '', lines: edges }] : [] },
    variables(titles.environment, diff.environment_variables),
    variables(titles.conversation, diff.conversation_variables),
    { title: titles.features, change: null, fields: diff.features.map(fieldOf) },
    { title: titles.app, change: null, fields: diff.app.map(fieldOf) },
  ];
  return [...nodes, ...others.filter((card) => card.fields.length)];
}
