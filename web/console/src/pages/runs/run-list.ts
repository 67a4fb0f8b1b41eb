/** The runs of the list: pages that are loaded as the reader scrolls, and what the stream brings. */

import { onScopeDispose, ref, shallowReactive, shallowRef, triggerRef, watch } from 'vue';
import type { Connection } from '@ui/sse';
import { ApiError, call, follow } from '../../api';
import type { Page, RunLine } from '../../model';
import { filters, passes, queryOf } from './filters';

const MOST = 2000; // runs that a list may grow to while it is left open

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
  const known = new Map<string, RunLine>(); // all in `runs` and `fresh`

  function added(line: RunLine): RunLine {
    const run = shallowReactive(line); // a change of one renders its row alone
    known.set(line.id, run);
    return run;
  }

  async function load(older: string | null): Promise<void> {
    const own = older ? generation : ++generation;
    loading.value = true;
    try {
      const query = { ...queryOf(filters.value), ...(older ? { cursor: older } : {}) };
      const page = await call<Page<RunLine>>('/workflow-runs', { query, signal: stop.signal });
      if (own !== generation) return;
      if (!older) {
        const newest = page.data[0]?.created_at_ms ?? 0;
        known.clear();
        runs.value = [];
        // what the stream brought meanwhile
        fresh.value = fresh.value.filter((run) => run.created_at_ms > newest && passes(run, filters.value));
        for (const run of fresh.value) known.set(run.id, run);
      }
      for (const line of page.data) if (!known.has(line.id)) runs.value.push(added(line));
      triggerRef(runs);
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

  const isNew = (line: RunLine): boolean =>
    fresh.value.length < MOST &&
    passes(line, filters.value) &&
    line.created_at_ms >= (runs.value[0]?.created_at_ms ?? 0);

  function take(line: RunLine): void {
    const run = known.get(line.id);
    if (run) Object.assign(run, line);
    else if (isNew(line)) {
      fresh.value = [added(line), ...fresh.value];
      if (atTop() && !paused.value) showFresh();
    }
  }

  function showFresh(): void {
    if (runs.value.length + fresh.value.length > MOST) {
      // the older ones are not in view, and are read again when they are
      if (!loading.value) void load(null);
      return;
    }
    runs.value = [...fresh.value, ...runs.value];
    fresh.value = [];
  }

  async function live(): Promise<void> {
    const onConnection = (now: Connection) => (connection.value = now);
    try {
      const events = follow('/workflow-runs/events', { signal: stop.signal, onConnection });
      for await (const event of events) {
        if (event.event === 'reset') void load(null);
        else if (event.event === 'run') take(JSON.parse(event.data) as RunLine);
      }
    } catch (failure) {
      if (stop.signal.aborted) return;
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
