import type { LocalFile } from './files.js';
import { randomUuid } from './platform.js';

/** A form as it is sent: made here, because a `fetch` from elsewhere may not know Node's own FormData. */
export interface Form {
  readonly type: string;
  readonly body: Uint8Array;
}

/** A form of text fields and one file, called `file`. */
export async function formOf(fields: Readonly<Record<string, string>>, file: LocalFile): Promise<Form> {
  const { blob, name } = await file.part();
  const boundary = `headrace-${await randomUuid()}`;
  const begin = (quoted: string) => `--${boundary}\r\nContent-Disposition: form-data; ${quoted}`;
  const texts = Object.entries(fields).map(
    ([field, value]) => `${begin(`name="${escaped(field)}"`)}\r\n\r\n${value}\r\n`,
  );
  const head = `${begin(`name="file"; filename="${escaped(name)}"`)}\r\nContent-Type: ${blob.type}\r\n\r\n`;
  const whole = new Blob([...texts, head, blob, `\r\n--${boundary}--\r\n`]);
  return { type: `multipart/form-data; boundary=${boundary}`, body: new Uint8Array(await whole.arrayBuffer()) };
}

/** A name within quotes, as browsers write it. */
function escaped(name: string): string {
  return name.replace(/\r\n|\r|\n/g, '%0D%0A').replaceAll('"', '%22');
}
