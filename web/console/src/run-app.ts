/** Calls of one run name its app in a header. The lists have it; for an address that was opened directly, it is found. */

import { ApiError, call } from './api';
import type { Page, RunLine } from './model';

const apps = new Map<string, string>(); // by the run's id

export const noteApp = (run: string, app: string): unknown => apps.set(run, app);

export async function appHeader(run: string, signal?: AbortSignal): Promise<Record<string, string>> {
  if (!apps.has(run)) {
    const query = { keyword: run, limit: 1 };
    const { data } = await call<Page<RunLine>>('/workflow-runs', { query, signal });
    const [line] = data.filter((item) => item.id === run);
    if (!line) throw new ApiError(404, 'not_found', 'Workflow run not found');
    noteApp(run, line.app_id);
  }
  return { 'Headrace-App': apps.get(run)! };
}
