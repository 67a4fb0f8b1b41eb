/** Data of a page: loaded at once, again when what it depends on changes, and on demand. */

import { onScopeDispose, ref, shallowRef, watch, type Ref, type ShallowRef } from 'vue';
import { ApiError } from './api';

export interface Loaded<T> {
  data: ShallowRef<T | undefined>;
  error: Ref<string>;
  /** True only after 200 ms, so that a fast answer shows no skeleton. */
  slow: Ref<boolean>;
  reload: () => Promise<void>;
}

export function useLoad<T>(
  load: (signal: AbortSignal) => Promise<T>,
  dependency: () => unknown = () => null,
): Loaded<T> {
  const data = shallowRef<T>();
  const error = ref('');
  const slow = ref(false);
  let running: AbortController | undefined;

  async function reload(): Promise<void> {
    running?.abort();
    const own = (running = new AbortController());
    const timer = setTimeout(() => (slow.value = true), 200);
    try {
      const loaded = await load(own.signal);
      if (own.signal.aborted) return;
      data.value = loaded;
      error.value = '';
    } catch (failure) {
      if (own.signal.aborted) return;
      if (!(failure instanceof ApiError)) throw failure;
      error.value = failure.message;
    } finally {
      clearTimeout(timer);
      if (running === own) slow.value = false;
    }
  }

  watch(dependency, () => void reload(), { immediate: true });
  onScopeDispose(() => running?.abort());
  return { data, error, slow, reload };
}
