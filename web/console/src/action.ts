/** What buttons of a page or a dialog do: one action at a time, and what the API has refused. */

import { ref, type Ref } from 'vue';
import { ApiError } from './api';

export interface Actions {
  busy: Ref<boolean>;
  error: Ref<string>;
  /** Undefined where the action was refused, or another one is under way. */
  act: <T>(action: () => Promise<T>) => Promise<T | undefined>;
}

/** `refused` receives the API's message; without it, `error` does. */
export function useActions(refused?: (message: string) => void): Actions {
  const busy = ref(false);
  const error = ref('');
  const report = refused ?? ((message: string) => void (error.value = message));

  async function act<T>(action: () => Promise<T>): Promise<T | undefined> {
    if (busy.value) return undefined;
    busy.value = true;
    try {
      return await action();
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      report(failure.message);
      return undefined;
    } finally {
      busy.value = false;
    }
  }

  return { busy, error, act };
}
