import type { LocalFile } from './files.js';
import { randomUuid } from './platform.js';

/** A serialized form: a `fetch` that is not Node's own may not support Node's FormData. */
export interface Form {
  readonly type: string;
  readonly body: Uint8Array;
}

/** A form of text fields and one file, called `file`. */
export async function buildForm(fields: Readonly<Record<string, string>>, file: LocalFile): Promise<Form> {
  const { blob, name } = await file.part();
  const boundary = `headrace-${await randomUuid()}`;
  const partHead = (parameters: string) => `--${boundary}\r\nContent-Disposition: form-data; ${parameters}`;
  const texts = Object.entries(fields).map(
    ([field, value]) => `${partHead(`name="${escapeQuotes(field)}"`)}\r\n\r\n${value}\r\n`,
  );
  const head = `${partHead(`name="file"; filename="${escapeQuotes(name)}"`)}\r\nContent-Type: ${blob.type}\r\n\r\n`;
  const whole = new Blob([...texts, head, blob, `\r\n--${boundary}--\r\n`]);
  return { type: `multipart/form-data; boundary=${boundary}`, body: new Uint8Array(await whole.arrayBuffer()) };
}

/** A name for a quoted string, escaped as browsers do. */
function escapeQuotes(name: string): string {
  return name.replace(/\r\n|\r|\n/g, '%0D%0A').replaceAll('"', '%22');
}
