/** The test queries of a knowledge base: what they found, and which this browser has sent before. */

import { ref, type Ref } from 'vue';
import { recall, remember } from '@ui/memory';
import type { Chunk } from './knowledge';

export interface Hit {
  segment: Chunk & { document: { id: string; name: string } };
  child_chunks: { id: string; content: string; position: number; score: number }[];
  score: number | null;
}

export interface PastQuery {
  query: string;
  at: number; // seconds since 1970
  hits: number;
}

const MOST = 20;

export interface History {
  queries: Ref<PastQuery[]>;
  add: (query: PastQuery) => void;
  clear: () => void;
}

export function useHistory(base: string): History {
  const name = `knowledge-queries-${base}`;
  const queries = ref(read(name));
  function keep(list: PastQuery[]): void {
    queries.value = list;
    remember(name, list.length ? JSON.stringify(list) : null);
  }
  return {
    queries,
    add: (query) => keep([query, ...queries.value.filter((old) => old.query !== query.query)].slice(0, MOST)),
    clear: () => keep([]),
  };
}

/** What is stored may be of another version, or of somebody who has changed it. */
function read(name: string): PastQuery[] {
  try {
    const stored = JSON.parse(recall(name) ?? '[]') as PastQuery[];
    return stored.filter((item) => typeof item.query === 'string' && typeof item.at === 'number');
  } catch {
    return [];
  }
}
