/** Values of a run that can be changed before it runs again: a text each, JSON where the value is not a text. */

export interface Editable {
  name: string;
  isText: boolean;
  original: string;
  text: string;
}

interface StoredFile {
  dify_model_identity: string;
  type: string;
  transfer_method: string;
  related_id?: string | null;
  remote_url?: string | null;
}

const isStoredFile = (value: unknown): value is StoredFile =>
  typeof value === 'object' && value !== null && 'dify_model_identity' in value;

/** System variables belong to a run, and `usage` is what a model reported: neither is a value to change. */
const isOwn = (name: string): boolean => !name.startsWith('sys.') && name !== 'usage';

export function editables(values: Record<string, unknown> | null | undefined): Editable[] {
  return Object.entries(values ?? {}).flatMap(([name, value]) => {
    if (!isOwn(name)) return [];
    const isText = typeof value === 'string';
    const text = isText ? value : JSON.stringify(value, null, 2);
    return [{ name, isText, original: text, text }];
  });
}

export const isChanged = ({ text, original }: Editable): boolean => text !== original;

/** A file as a request names it; a run shows it with all that is known of it. */
function requested(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(requested);
  if (!isStoredFile(value)) return value;
  const { type, transfer_method, related_id, remote_url } = value;
  if (transfer_method === 'remote_url') return { type, transfer_method, url: remote_url };
  return { type, transfer_method, [transfer_method === 'tool_file' ? 'tool_file_id' : 'upload_file_id']: related_id };
}

/** Throws SyntaxError where a text should be JSON and is not. */
export function valueOf({ text, isText }: Editable): unknown {
  return isText ? text : JSON.parse(text);
}

/** Inputs of a request; what was left out in the run is left out again. */
export const inputsOf = (items: Editable[]): Record<string, unknown> =>
  Object.fromEntries(
    items.flatMap((item) => {
      const value = requested(valueOf(item));
      return value === null ? [] : [[item.name, value]];
    }),
  );

export function isInvalid(item: Editable): boolean {
  try {
    valueOf(item);
    return false;
  } catch {
    return true;
  }
}
