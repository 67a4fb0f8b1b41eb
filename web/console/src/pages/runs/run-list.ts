/** The runs of the list: pages that are loaded as the reader scrolls, and what the stream brings. */

import { onScopeDispose, ref, shallowRef, triggerRef, watch } from 'vue';
import type { Connection } from '@ui/sse';
import { ApiError, call, follow } from '../../api';
import type { Page, RunLine } from '../../model';
import { filters, LINE_FIELDS, passes, queryOf } from './filters';

export function useRunList(atTop: () => boolean) {
  const runs = shallowRef<RunLine[]>([]);
  const fresh = shallowRef<RunLine[]>([]); // newer ones, which wait until the reader wants them
  const cursor = ref<string | null>(null);
  const loaded = ref(false);
  const loading = ref(false);
  const error = ref('');
  const connection = ref<Connection>('connecting');
  const paused = ref(false);
  const stop = new AbortController();
  let generation = 0;
  let known = new Map<string, number>(); // index in `runs`, counted from its end, since the list grows at its start

  const indexOf = (id: string): number => {
    const fromEnd = known.get(id);
    return fromEnd === undefined ? -1 : runs.value.length - fromEnd;
  };

  function index(): void {
    known = new Map(runs.value.map((run, at) => [run.id, runs.value.length - at]));
  }

  async function load(older: string | null): Promise<void> {
    const own = older ? generation : ++generation;
    loading.value = true;
    try {
      const query = { ...queryOf(filters.value), ...(older ? { cursor: older } : {}) };
      const page = await call<Page<RunLine>>('/workflow-runs', { query, signal: stop.signal });
      if (own !== generation) return;
      if (!older) fresh.value = [];
      const before = older ? runs.value : [];
      if (older) index();
      runs.value = before.concat(older ? page.data.filter((run) => !known.has(run.id)) : page.data);
      index();
      cursor.value = page.next_cursor;
      loaded.value = true;
      error.value = '';
    } catch (failure) {
      if (stop.signal.aborted || own !== generation) return;
      if (!(failure instanceof ApiError)) throw failure;
      error.value = failure.message;
    } finally {
      if (own === generation) loading.value = false;
    }
  }

  function take(run: RunLine): void {
    const at = indexOf(run.id);
    if (at >= 0) {
      runs.value[at] = { ...runs.value[at], ...run };
      return triggerRef(runs);
    }
    const waiting = fresh.value.findIndex((item) => item.id === run.id);
    if (waiting >= 0) fresh.value[waiting] = run;
    else if (passes(run, filters.value) && run.created_at_ms >= (runs.value[0]?.created_at_ms ?? 0)) {
      fresh.value = [run, ...fresh.value];
      if (atTop() && !paused.value) showFresh();
    }
  }

  function showFresh(): void {
    runs.value = [...fresh.value, ...runs.value];
    for (const [at, run] of fresh.value.entries()) known.set(run.id, runs.value.length - at);
    fresh.value = [];
  }

  async function live(): Promise<void> {
    const onConnection = (now: Connection) => (connection.value = now);
    try {
      const events = follow('/workflow-runs/events', { signal: stop.signal, onConnection }, { include: LINE_FIELDS });
      for await (const event of events) {
        if (event.event === 'reset') void load(null);
        else if (event.event === 'run') take(JSON.parse(event.data) as RunLine);
      }
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      error.value = failure.message;
    }
  }

  watch(filters, () => void load(null), { immediate: true });
  void live();
  onScopeDispose(() => stop.abort());
  const more = () => (cursor.value && !loading.value ? load(cursor.value) : undefined);
  return { runs, fresh, cursor, loaded, loading, error, connection, paused, more, showFresh, reload: () => load(null) };
}
