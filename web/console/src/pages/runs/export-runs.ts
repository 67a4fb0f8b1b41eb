/** The runs that pass the filters as a file. */

import { call } from '../../api';
import { csvHead, csvLine } from '../../csv';
import type { Page, RunLine } from '../../model';
import { queryOf, type Filters } from './filters';

export const FORMATS = { csv: 'text/csv', jsonl: 'application/jsonl' } as const;
export type Format = keyof typeof FORMATS;

const COLUMNS = [
  'id',
  'app_id',
  'app_name',
  'workflow_id',
  'version_number',
  'status',
  'input',
  'error_node_title',
  'error',
  'created_at_ms',
  'finished_at_ms',
  'elapsed_time',
  'total_steps',
  'total_tokens',
  'total_price',
  'currency',
  'user',
  'source',
] as const satisfies readonly (keyof RunLine)[];

const lineOf: Record<Format, (run: RunLine) => string> = {
  csv: (run) => csvLine(COLUMNS.map((column) => run[column])),
  jsonl: (run) => `${JSON.stringify(run)}\n`,
};

/** The parts of the file, newest runs first. `onProgress` gets the number of runs so far. */
export async function exportRuns(
  by: Filters,
  format: Format,
  onProgress: (count: number) => void,
  signal: AbortSignal,
): Promise<string[]> {
  const parts = format === 'csv' ? [csvHead(COLUMNS)] : [];
  const query = queryOf(by);
  let cursor: string | null = null;
  let count = 0;
  do {
    const page: Page<RunLine> = await call('/workflow-runs', { query: { ...query, cursor }, signal });
    parts.push(page.data.map(lineOf[format]).join(''));
    onProgress((count += page.data.length));
    cursor = page.next_cursor;
  } while (cursor);
  return parts;
}
