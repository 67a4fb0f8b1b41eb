/** The console's conversations with an app, those with the newest messages first. */

import { ref } from 'vue';
import { call } from '../../api';
import { useLoad } from '../../load';
import { USER } from '../app/app-run';

export interface Conversation {
  id: string;
  name: string;
  updated_at: number;
}

const PAGE = 20;
const LARGEST_PAGE = 100;

export function useConversations(app: string) {
  const list = ref<Conversation[]>([]);
  const hasMore = ref(false);

  async function read(limit: number, last_id: string | null, signal?: AbortSignal): Promise<Conversation[]> {
    const query = { user: USER, limit, last_id };
    const page = await call<{ data: Conversation[]; has_more: boolean }>(`/apps/${app}/v1/conversations`, {
      query,
      signal,
    });
    hasMore.value = page.has_more;
    return page.data;
  }

  const { error, reload } = useLoad(async (signal) => {
    list.value = await read(Math.min(LARGEST_PAGE, Math.max(PAGE, list.value.length)), null, signal);
  });

  async function more(): Promise<void> {
    list.value.push(...(await read(PAGE, list.value.at(-1)?.id ?? null)));
  }

  return { list, hasMore, error, reload, more };
}
