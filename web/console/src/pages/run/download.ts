import { toast } from '@ui/toast';
import { ApiError, call } from '../../api';
import type { Execution, Run } from '../../model';
import { appHeader } from '../../run-app';

/** The run with all its steps as one JSON file. */
export async function download(id: string): Promise<void> {
  try {
    const headers = await appHeader(id);
    const [run, nodes] = await Promise.all([
      call<Run>(`/workflow-runs/${id}`, { headers }),
      call<{ data: Execution[] }>(`/workflow-runs/${id}/node-executions`, { headers }),
    ]);
    const text = JSON.stringify({ ...run, node_executions: nodes.data }, null, 2);
    const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    const link = Object.assign(document.createElement('a'), { href: url, download: `run-${id}.json` });
    link.click();
    URL.revokeObjectURL(url);
  } catch (failure) {
    if (!(failure instanceof ApiError)) throw failure;
    toast(failure.message);
  }
}
