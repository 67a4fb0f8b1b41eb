import type { Run } from '../../model';

/** What a run is recognised by: its query, else its first text input, else a file's name. */
export function titleOf(run: Run): string {
  if (run.query) return run.query;
  const values = Object.entries(run.inputs).flatMap(([name, value]) => (name.startsWith('sys.') ? [] : [value]));
  const text = values.find((value) => typeof value === 'string' && value.trim());
  if (typeof text === 'string') return text.slice(0, 200);
  const file = values.flat().find((value) => typeof value === 'object' && value !== null && 'filename' in value);
  return String(
    (file as { filename?: unknown } | undefined)?.filename ?? values.find((value) => typeof value === 'number') ?? '',
  );
}
