/** What is typed into the form, and the inputs that are made of it. */

import { recall, remember } from '@ui/memory';
import type { AppForm, FormInput } from '../../model';

/** A file that the server has. */
export interface Uploaded {
  id: string;
  name: string;
  type: string; // Dify's kind: image, document ...
}

export type Typed = string | boolean | Uploaded[];
export type TypedValues = Record<string, Typed>;

const key = (app: string): string => `inputs:${app}`;
const isFile = (input: FormInput): boolean => input.type === 'file' || input.type === 'file-list';

function initial(input: FormInput): Typed {
  if (isFile(input)) return [];
  if (input.type === 'checkbox') return input.default === true || input.default === 'true';
  if (input.default === null || input.default === undefined) return '';
  return typeof input.default === 'object' ? JSON.stringify(input.default, null, 2) : String(input.default);
}

/** The last inputs of this app in this browser, where they still suit its form; files are chosen anew. */
export function startingValues(app: string, form: AppForm): TypedValues {
  let last: Record<string, unknown> = {};
  try {
    last = JSON.parse(recall(key(app)) ?? '{}') as Record<string, unknown>;
  } catch {
    // another version of the page wrote it
  }
  return Object.fromEntries(
    form.inputs.map((input) => {
      const value = last[input.name];
      const suits = !isFile(input) && typeof value === (input.type === 'checkbox' ? 'boolean' : 'string');
      return [input.name, suits ? (value as Typed) : initial(input)];
    }),
  );
}

export function keepValues(app: string, form: AppForm, values: TypedValues): void {
  const kept = form.inputs.filter((input) => !isFile(input)).map((input) => [input.name, values[input.name]]);
  remember(key(app), JSON.stringify(Object.fromEntries(kept)));
}

/** A file as a request names it. */
export const fileReference = ({ id, type }: Uploaded) => ({ type, transfer_method: 'local_file', upload_file_id: id });

/** What is said of the inputs whose text should be JSON and is not, by their names. */
export function invalidJson(form: AppForm, values: TypedValues, problem: string): Record<string, string> {
  const invalid: Record<string, string> = {};
  for (const input of form.inputs.filter((item) => item.type.startsWith('json'))) {
    try {
      inputsOf({ ...form, inputs: [input] }, values);
    } catch {
      invalid[input.name] = problem;
    }
  }
  return invalid;
}

/** The inputs of a call; what was left empty is left out. Throws SyntaxError for JSON that cannot be read. */
export function inputsOf(form: AppForm, values: TypedValues): Record<string, unknown> {
  const inputs: Record<string, unknown> = {};
  for (const input of form.inputs) {
    const value = values[input.name];
    if (Array.isArray(value)) {
      if (value.length) inputs[input.name] = input.type === 'file' ? fileReference(value[0]!) : value.map(fileReference);
    } else if (typeof value === 'boolean') inputs[input.name] = value;
    else if (value !== undefined && value !== '') {
      inputs[input.name] =
        input.type === 'number' ? Number(value) : input.type.startsWith('json') ? JSON.parse(value) : value;
    }
  }
  return inputs;
}
