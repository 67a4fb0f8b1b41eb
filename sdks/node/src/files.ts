/** Files in the shape that a workflow's variables want. */

import { UsageError, isObject } from './errors.js';
import type { AppParameters, UploadedFile } from './models.js';
import { basename, readFile } from './platform.js';

/** What a workflow takes a file for. */
export type FileType = 'image' | 'document' | 'audio' | 'video' | 'custom';

/** What a file can be read from: bytes, a Blob or File, a stream (Node's or the web's). */
export type FileContent = Uint8Array | ArrayBuffer | Blob | AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>;

export interface FileOptions {
  /** The name that it is uploaded with. */
  filename?: string | undefined;
  mimeType?: string | undefined;
  /** What the workflow takes it for; else guessed from the name. */
  type?: FileType | undefined;
}

/** A file to upload: a path, or content, with what is not to be guessed. */
export class LocalFile {
  readonly filename: string | undefined;
  readonly mimeType: string | undefined;
  readonly type: FileType | undefined;

  constructor(
    /** A text is a path, a URL one of `file:`; both are read in Node only. */
    readonly content: string | URL | FileContent,
    options: FileOptions = {},
  ) {
    this.filename = options.filename;
    this.mimeType = options.mimeType;
    this.type = options.type;
  }

  /** The bytes, with the name and the type that they are uploaded with. */
  async part(): Promise<{ blob: Blob; name: string }> {
    const { content } = this;
    let bytes: Blob | Uint8Array | ArrayBuffer;
    let name = this.filename;
    if (typeof content === 'string' || content instanceof URL) {
      bytes = await readFile(content);
      name ??= basename(typeof content === 'string' ? content : decodeURIComponent(content.pathname));
    } else if (content instanceof Blob) {
      bytes = content;
      name ??= nameOf(content);
    } else if (content instanceof Uint8Array || content instanceof ArrayBuffer) {
      bytes = content;
    } else {
      name ??= pathOf(content);
      bytes = await gathered(content);
    }
    name ||= `file.${await extensionOf(bytes)}`;
    const type = this.mimeType ?? ((bytes instanceof Blob && bytes.type) || MIME[endOf(name)] || BINARY);
    return { blob: new Blob([bytes], { type }), name };
  }
}

/** A file as a run takes it. */
export interface FileMapping {
  readonly type: string;
  readonly transfer_method: 'local_file' | 'remote_url';
  readonly upload_file_id?: string;
  readonly url?: string;
}

/**
 * What may stand for a file: `new LocalFile(path)`, a `URL` (`file:` is uploaded), bytes, a Blob, a stream, an
 * upload.
 */
export type FileInput = LocalFile | URL | FileContent | UploadedFile | FileMapping | string;

const BINARY = 'application/octet-stream';
const KINDS: Readonly<Record<string, FileType>> = Object.fromEntries(
  (
    [
      ['image', 'jpg jpeg png webp gif svg'],
      ['document', 'txt markdown md mdx pdf html htm xlsx xls vtt properties doc docx csv eml msg pptx ppt xml epub'],
      ['audio', 'mp3 m4a wav amr mpga'],
      ['video', 'mp4 mov mpeg webm'],
    ] as const
  ).flatMap(([kind, ends]) => ends.split(' ').map((end) => [end, kind])),
);
const MIME: Readonly<Record<string, string>> = {
  csv: 'text/csv',
  doc: 'application/msword',
  docx: 'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
  eml: 'message/rfc822',
  epub: 'application/epub+zip',
  gif: 'image/gif',
  htm: 'text/html',
  html: 'text/html',
  jpeg: 'image/jpeg',
  jpg: 'image/jpeg',
  json: 'application/json',
  m4a: 'audio/mp4',
  markdown: 'text/markdown',
  md: 'text/markdown',
  mov: 'video/quicktime',
  mp3: 'audio/mpeg',
  mp4: 'video/mp4',
  mpeg: 'video/mpeg',
  pdf: 'application/pdf',
  png: 'image/png',
  ppt: 'application/vnd.ms-powerpoint',
  pptx: 'application/vnd.openxmlformats-officedocument.presentationml.presentation',
  svg: 'image/svg+xml',
  txt: 'text/plain',
  wav: 'audio/wav',
  webm: 'video/webm',
  webp: 'image/webp',
  xls: 'application/vnd.ms-excel',
  xlsx: 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
  xml: 'text/xml',
  zip: 'application/zip',
};
const MAGIC: readonly (readonly [string, number, string])[] = [
  ['\x89PNG\r\n\x1a\n', 0, 'png'],
  ['\xff\xd8\xff', 0, 'jpg'],
  ['GIF8', 0, 'gif'],
  ['%PDF-', 0, 'pdf'],
  ['ID3', 0, 'mp3'],
  ['WEBP', 8, 'webp'],
  ['WAVE', 8, 'wav'],
];

/** What a workflow's form says of a variable. */
export interface Variable {
  readonly kind: string;
  readonly allowed: readonly string[];
}

/** The variables of an app's form, by name. */
export function variablesOf(parameters: AppParameters): Map<string, Variable> {
  const found = new Map<string, Variable>();
  for (const entry of parameters.user_input_form ?? []) {
    for (const [kind, told] of Object.entries(entry)) {
      if (!isObject(told) || typeof told['variable'] !== 'string') continue;
      const allowed = Array.isArray(told['allowed_file_types']) ? told['allowed_file_types'].map(String) : [];
      found.set(told['variable'], { kind: String(told['type'] || kind), allowed });
    }
  }
  return found;
}

export function takesFiles(variable: Variable | undefined): boolean {
  return variable?.kind === 'file' || variable?.kind === 'file-list';
}

export function isUrl(value: unknown): value is string {
  return typeof value === 'string' && /^https?:\/\//i.test(value);
}

function isUpload(value: unknown): value is UploadedFile {
  return isObject(value) && 'mime_type' in value && typeof value['id'] === 'string' && 'size' in value;
}

/** Whether a value can only be a file. */
export function isFile(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return (
    value instanceof LocalFile ||
    value instanceof URL ||
    value instanceof Uint8Array ||
    value instanceof ArrayBuffer ||
    value instanceof Blob ||
    Symbol.asyncIterator in value ||
    'getReader' in value ||
    isUpload(value)
  );
}

export function listed(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [value];
}

/** Whether a value, or one in its list, is a file or a URL, which may stand for one. */
export function mayBeFile(value: unknown): boolean {
  return listed(value).some((each) => isFile(each) || isUrl(each));
}

/** A value in the shape that a run takes. `upload` takes a file in. What is no file stays as it is. */
export async function mapped(
  value: unknown,
  variable: Variable | undefined,
  upload: (file: LocalFile) => Promise<UploadedFile>,
): Promise<unknown> {
  if (isUpload(value)) return local(value, variable);
  if (isUrl(value)) return remote(value, variable);
  if (value instanceof URL && value.protocol !== 'file:') return remote(value.href, variable);
  if (!isFile(value)) return value;
  const file = localFileOf(value as LocalFile | URL | FileContent);
  return local(await upload(file), variable, file.type);
}

/** A value as a file to upload. */
export function localFileOf(value: LocalFile | URL | FileContent | string): LocalFile {
  if (value instanceof LocalFile) return value;
  if (!(value instanceof URL)) return new LocalFile(value);
  if (value.protocol !== 'file:') throw new UsageError(`Only a file: URL can be uploaded, not ${value.href}`);
  return new LocalFile(value);
}

/** One file or a list of them, as the variable wants it; as it was given where that is not known. */
export function shaped(many: readonly unknown[], given: unknown, variable: Variable | undefined): unknown {
  if (variable?.kind === 'file-list') return many;
  if (variable?.kind === 'file' && many.length === 1) return many[0];
  return Array.isArray(given) ? many : many[0];
}

function remote(url: string, variable: Variable | undefined): FileMapping {
  return { type: typeOf(new URL(url).pathname, variable), transfer_method: 'remote_url', url };
}

function local(file: UploadedFile, variable: Variable | undefined, stated?: FileType): FileMapping {
  const name = file.name || `.${file.extension ?? ''}`;
  return { type: stated ?? typeOf(name, variable), transfer_method: 'local_file', upload_file_id: file.id };
}

/** What a file of this name is taken for, by a variable that may allow only some types. */
export function typeOf(name: string, variable: Variable | undefined): string {
  const allowed = variable?.allowed ?? [];
  const usual = KINDS[endOf(name)];
  if (usual !== undefined && (!allowed.length || allowed.includes(usual))) return usual;
  if (!allowed.length) return 'document';
  return allowed.includes('custom') ? 'custom' : (usual ?? allowed[0] ?? 'document');
}

function endOf(name: string): string {
  const dot = name.lastIndexOf('.');
  return dot < 0 ? '' : name.slice(dot + 1).toLowerCase();
}

/** The name of a File, which is a global only from Node 20 on. */
function nameOf(blob: Blob): string | undefined {
  return 'name' in blob && typeof blob.name === 'string' && blob.name ? basename(blob.name) : undefined;
}

/** The name of what `fs.createReadStream` reads. */
function pathOf(stream: object): string | undefined {
  return 'path' in stream && typeof stream.path === 'string' ? basename(stream.path) : undefined;
}

async function gathered(stream: AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>): Promise<Blob> {
  const pieces: Uint8Array[] = [];
  if (Symbol.asyncIterator in stream) {
    for await (const piece of stream) pieces.push(bytesOf(piece));
  } else {
    const reader = (stream as ReadableStream<Uint8Array>).getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) pieces.push(bytesOf(piece.value));
  }
  return new Blob(pieces);
}

function bytesOf(piece: unknown): Uint8Array {
  if (piece instanceof Uint8Array) return piece;
  throw new UsageError('The stream does not give bytes; open it without an encoding.');
}

/** The extension that a file's first bytes speak for. */
async function extensionOf(bytes: Blob | Uint8Array | ArrayBuffer): Promise<string> {
  const blob = bytes instanceof Blob ? bytes : new Blob([bytes]);
  const end = Object.entries(MIME).find(([, type]) => type === blob.type)?.[0];
  if (end) return end;
  const head = new Uint8Array(await blob.slice(0, 16).arrayBuffer());
  const text = String.fromCharCode(...head);
  for (const [magic, at, extension] of MAGIC) if (text.startsWith(magic, at)) return extension;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(await blob.arrayBuffer());
    return 'txt';
  } catch {
    return 'bin'; // no text
  }
}
