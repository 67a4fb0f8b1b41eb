/** A file of inputs as JSON Lines: as it is, or from a table of comma-separated values with the inputs' names on top. */

import type { AppForm, FormInput } from '../../model';

export interface BatchFile {
  body: Blob | string;
  count: number;
  first: string;
}

/** What is wrong with a file, and where. */
export class FileProblem extends Error {
  constructor(
    readonly kind: 'encoding' | 'empty' | 'unknown' | 'twice' | 'value' | 'cells' | 'quote',
    readonly row: number,
    readonly name: string,
  ) {
    super(`${kind} ${row} ${name}`);
  }
}

const OF_MESSAGE = ['query', 'conversation_id'];

export async function linesOf(file: File, form: AppForm): Promise<BatchFile> {
  const text = textOf(await file.arrayBuffer());
  const isTable = /\.(csv|tsv)$/i.test(file.name);
  const lines = isTable ? fromTable(text, form) : text.split('\n').filter((line) => line.trim());
  if (!lines.length) throw new FileProblem('empty', 0, file.name);
  return { body: lines.join('\n'), count: lines.length, first: lines[0]!.trim() };
}

/** Decoding another encoding as UTF-8 would replace its letters, and the batch would run with them. */
function textOf(bytes: ArrayBuffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new FileProblem('encoding', 0, '');
  }
}

function fromTable(text: string, form: AppForm): string[] {
  const rows = cells(text);
  const [head, ...records] = rows;
  if (!head) return [];
  const isChat = form.mode.includes('chat');
  const inputs = new Map(form.inputs.map((input) => [input.name, input]));
  const names = head.map((name) => name.trim());
  for (const [at, name] of names.entries()) {
    if (!inputs.has(name) && !(isChat && OF_MESSAGE.includes(name))) throw new FileProblem('unknown', 1, name);
    if (names.indexOf(name) < at) throw new FileProblem('twice', 1, name);
  }
  return records.map((record, index) => {
    const row = index + 2;
    if (record.length > names.length) throw new FileProblem('cells', row, '');
    const line: Record<string, unknown> = { inputs: {} };
    for (const [at, cell] of record.entries()) {
      const name = names[at]!;
      if (!cell) continue;
      const input = inputs.get(name);
      if (isChat && OF_MESSAGE.includes(name)) line[name] = cell;
      else (line.inputs as Record<string, unknown>)[name] = valueOf(cell, input!, row);
    }
    return JSON.stringify(line);
  });
}

function valueOf(cell: string, input: FormInput, row: number): unknown {
  const problem = new FileProblem('value', row, input.name);
  switch (input.type) {
    case 'number': {
      const value = Number(cell);
      if (!cell.trim() || !Number.isFinite(value)) throw problem;
      return value;
    }
    case 'checkbox': {
      const word = cell.trim().toLowerCase();
      if (!['true', 'false', '1', '0'].includes(word)) throw problem;
      return word === 'true' || word === '1';
    }
    case 'text-input':
    case 'paragraph':
    case 'select':
      return cell;
    default: // JSON, and files as a request names them
      try {
        return JSON.parse(cell);
      } catch {
        throw problem;
      }
  }
}

/** Spreadsheets of some countries write semicolons, since their commas are in numbers. */
function separatorOf(text: string): string {
  const head = text.slice(0, text.search(/\n|$/));
  const count = (mark: string): number => head.split(mark).length;
  return [',', ';', '\t'].reduce((best, mark) => (count(mark) > count(best) ? mark : best));
}

/** Rows of a table (RFC 4180), without those that have only empty cells: spreadsheets write some. */
function cells(text: string): string[][] {
  const separator = separatorOf(text);
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = '';
  let at = 0;
  const endRow = (): void => {
    row.push(cell);
    if (row.some((value) => value.trim())) rows.push(row);
    row = [];
    cell = '';
  };
  while (at < text.length) {
    const letter = text[at]!;
    if (letter === '"' && !cell) {
      const start = at + 1;
      do {
        at = text.indexOf('"', at + 1);
        if (at < 0) throw new FileProblem('quote', rows.length + 1, '');
      } while (text[at + 1] === '"' && (at += 1));
      cell = text.slice(start, at).replaceAll('""', '"');
    } else if (letter === separator) {
      row.push(cell);
      cell = '';
    } else if (letter === '\n') endRow();
    else if (letter !== '\r' || text[at + 1] !== '\n') cell += letter;
    at += 1;
  }
  if (cell || row.length) endRow();
  return rows;
}
