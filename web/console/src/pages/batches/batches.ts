/** Batches of an app, and how a page follows them. */

import { onScopeDispose, ref } from 'vue';
import type { Connection } from '@ui/sse';
import type { State } from '@ui/states';
import { ApiError, call, follow, request, type CallOptions } from '../../api';
import type { RunLine, RunStatus } from '../../model';

const COUNTS = ['succeeded', 'partial_succeeded', 'failed', 'stopped', 'running', 'paused', 'queued'] as const;
export type Count = (typeof COUNTS)[number];

export interface Batch extends Record<Count, number> {
  id: string;
  workflow_id: string;
  status: 'running' | 'stopped' | 'ended';
  total: number;
  concurrency: number;
  user: string;
  created_at: number;
  ended_at: number | null;
}

export interface BatchLine {
  index: number;
  workflow_run_id: string | null;
  status: RunStatus;
  outputs: Record<string, unknown> | null;
  answer?: string | null;
  error: string | null;
  elapsed_time: number | null;
  total_tokens: number | null;
}

export const STATE_OF: Record<Count, State> = {
  succeeded: 'succeeded',
  partial_succeeded: 'partial-succeeded',
  failed: 'failed',
  stopped: 'stopped',
  running: 'running',
  paused: 'waiting',
  queued: 'queued',
};

/** The counts that are not 0, in the order in which a bar shows them. */
export const partsOf = (batch: Batch) =>
  COUNTS.filter((name) => batch[name]).map((name) => ({ name, count: batch[name], state: STATE_OF[name] }));

export const overOf = (batch: Batch): number =>
  batch.succeeded + batch.partial_succeeded + batch.failed + batch.stopped;

/** Calls of batches name their app in a header. */
export const ofApp = (app: string, options: CallOptions = {}): CallOptions => ({
  ...options,
  headers: { ...options.headers, 'Headrace-App': app },
});

export async function lines(app: string, batch: string, query: CallOptions['query'], signal: AbortSignal) {
  const response = await request(`/batches/${batch}/results`, ofApp(app, { query, signal }));
  const text = await response.text();
  return text.split('\n').flatMap((line) => (line ? [JSON.parse(line) as BatchLine] : []));
}

export const stopBatch = (app: string, batch: string): Promise<Batch> =>
  call<Batch>(`/batches/${batch}/stop`, ofApp(app, { method: 'POST' }));

const PAUSE = 1000; // ms between two reads, however many runs change

/** Calls `changed` after runs of the app's batches (or of one of them) have changed, until the component goes. */
export function useBatchNews(app: string, batch: string | null, changed: () => Promise<void>) {
  const connection = ref<Connection>('connecting');
  const error = ref('');
  const stop = new AbortController();
  let timer = 0;
  onScopeDispose(() => {
    stop.abort();
    clearTimeout(timer);
  });
  const wanted = (line: RunLine): boolean =>
    batch ? line.source === `batch:${batch}` : line.source.startsWith('batch:');
  function schedule(): void {
    if (timer) return;
    timer = window.setTimeout(() => {
      timer = 0;
      if (!stop.signal.aborted) void changed();
    }, PAUSE);
  }
  async function listen(): Promise<void> {
    const options = {
      signal: stop.signal,
      headers: { 'Headrace-App': app },
      onConnection: (now: Connection) => (connection.value = now),
    };
    try {
      for await (const event of follow('/workflow-runs/events', options)) {
        if (event.event === 'ready' || event.event === 'reset') schedule();
        else if (event.event === 'run' && wanted(JSON.parse(event.data) as RunLine)) schedule();
      }
    } catch (failure) {
      if (stop.signal.aborted) return;
      if (!(failure instanceof ApiError)) throw failure;
      error.value = failure.message;
    }
  }
  void listen();
  return { connection, error };
}
