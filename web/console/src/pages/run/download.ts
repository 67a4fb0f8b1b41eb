import { toast } from '@ui/toast';
import { ApiError, call } from '../../api';
import type { Execution, Run } from '../../model';
import { save } from '../../save';

/** The run with all its steps as one JSON file. */
export async function download(id: string): Promise<void> {
  try {
    const [run, nodes] = await Promise.all([
      call<Run>(`/workflow-runs/${id}`),
      call<{ data: Execution[] }>(`/workflow-runs/${id}/node-executions`),
    ]);
    const text = JSON.stringify({ ...run, node_executions: nodes.data }, null, 2);
    save(new Blob([text], { type: 'application/json' }), `run-${id}.json`);
  } catch (failure) {
    if (!(failure instanceof ApiError)) throw failure;
    toast(failure.message);
  }
}
