/** A workflow file that is checked before it is served. */

import { onScopeDispose, shallowRef } from 'vue';
import { useActions } from '../../action';
import { ApiError, call, type CallOptions } from '../../api';
import type { AppMode, Graph } from '../../model';
import type { FileDiff } from '../versions/version-diff';

export interface Inspection {
  problems: { message: string; line: number | null; node: string | null; field: string | null; fatal: boolean }[];
  app: { name: string; mode: AppMode; nodes: number } | null;
  comparison?: { graph: Graph; diff: FileDiff | null; new: boolean };
}

/** `app` is the one with whose current version the file is compared. */
export function useFileCheck(app?: string) {
  const file = shallowRef<File>();
  const inspection = shallowRef<Inspection>();
  const { busy, error, act } = useActions();
  let checking: AbortController | undefined;
  onScopeDispose(() => checking?.abort());

  async function send<T>(path: string, options: CallOptions = {}): Promise<T> {
    const type = /\.zip$/i.test(file.value!.name) ? 'application/zip' : 'application/yaml';
    return await call<T>(path, { method: 'POST', body: file.value!, headers: { 'Content-Type': type }, ...options });
  }

  /** Checks a file; another one that is chosen in the meantime takes its place. */
  async function check(chosen: File | undefined): Promise<void> {
    if (!chosen || busy.value) return;
    checking?.abort();
    const { signal } = (checking = new AbortController());
    file.value = chosen;
    inspection.value = undefined;
    error.value = '';
    try {
      inspection.value = await send<Inspection>('/apps/lint', { signal, query: { compare: app } });
    } catch (failure) {
      if (signal.aborted) return;
      if (!(failure instanceof ApiError)) throw failure;
      error.value = failure.message;
    }
  }

  /** Sends the checked file there; undefined where it was refused. */
  async function publish<T>(path: string): Promise<T | undefined> {
    return await act(() => send<T>(path));
  }

  return { file, inspection, error, busy, check, publish };
}
