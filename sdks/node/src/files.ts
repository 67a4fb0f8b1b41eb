/** Files in the form that a workflow's variables expect. */

import { UsageError, isObject } from './errors.js';
import type { HumanInputForm } from './human-input.js';
import type { AppParameters, UploadedFile } from './models.js';
import { basename, readFile } from './platform.js';

/** The type of a file in a workflow. */
export type FileType = 'image' | 'document' | 'audio' | 'video' | 'custom';

/** The content of a file: bytes, a Blob or File, a stream (Node's or the web's). */
export type FileContent = Uint8Array | ArrayBuffer | Blob | AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>;

export interface FileOptions {
  /** The name that it is uploaded with. */
  filename?: string | undefined;
  mimeType?: string | undefined;
  /** The file's type in the workflow; by default guessed from the name. */
  type?: FileType | undefined;
}

/** A file to upload: a path or content. Options that are left out are guessed. */
export class LocalFile {
  readonly filename: string | undefined;
  readonly mimeType: string | undefined;
  readonly type: FileType | undefined;

  constructor(
    /** A string is a path, a URL a `file:` URL; both are read in Node only. */
    readonly content: string | URL | FileContent,
    options: FileOptions = {},
  ) {
    this.filename = options.filename;
    this.mimeType = options.mimeType;
    this.type = options.type;
  }

  /** The form part: the bytes with their type, and the file's name. */
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
      bytes = await readAll(content);
    }
    name ||= `file.${await guessExtension(bytes)}`;
    const type = this.mimeType ?? ((bytes instanceof Blob && bytes.type) || MIME[extensionFromName(name)] || BINARY);
    return { blob: new Blob([bytes], { type }), name };
  }
}

/** A file in the form that a run's request expects. */
export interface FileMapping {
  readonly type: string;
  readonly transfer_method: 'local_file' | 'remote_url';
  readonly upload_file_id?: string;
  readonly url?: string;
}

/**
 * A value that can be used as a file: `new LocalFile(path)`, a `URL` (`file:` is uploaded), bytes, a Blob, a stream, an
 * uploaded file.
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
  ).flatMap(([kind, extensions]) => extensions.split(' ').map((extension) => [extension, kind])),
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

/** A variable of a workflow's form. */
export interface Variable {
  readonly kind: string;
  readonly allowedTypes: readonly string[];
}

/** The variables of an app's form, by name. */
export function parseVariables(parameters: AppParameters): Map<string, Variable> {
  const variables = new Map<string, Variable>();
  for (const entry of parameters.user_input_form ?? []) {
    for (const [kind, field] of Object.entries(entry)) {
      if (!isObject(field) || typeof field['variable'] !== 'string') continue;
      const allowedTypes = Array.isArray(field['allowed_file_types']) ? field['allowed_file_types'].map(String) : [];
      variables.set(field['variable'], { kind: String(field['type'] || kind), allowedTypes });
    }
  }
  return variables;
}

/** A form's inputs as variables that may accept files. */
export function formVariables(form: HumanInputForm): Map<string, Variable> {
  return new Map(
    form.inputs.map(({ type, output_variable_name, allowed_file_types }) => [
      output_variable_name,
      { kind: type, allowedTypes: allowed_file_types ?? [] },
    ]),
  );
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

export function asArray(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [value];
}

/** Whether a value, or an item of a list, is a file, or a URL, which can be one. */
export function mayBeFile(value: unknown): boolean {
  return asArray(value).some((item) => isFile(item) || isUrl(item));
}

/** A value in the form that a run's request expects; files are passed to `upload`, other values stay the same. */
export async function mapFile(
  value: unknown,
  variable: Variable | undefined,
  upload: (file: LocalFile) => Promise<UploadedFile>,
): Promise<unknown> {
  if (isUpload(value)) return mapLocalFile(value, variable);
  if (isUrl(value)) return mapRemoteFile(value, variable);
  if (value instanceof URL && value.protocol !== 'file:') return mapRemoteFile(value.href, variable);
  if (!isFile(value)) return value;
  const file = toLocalFile(value as LocalFile | URL | FileContent);
  return mapLocalFile(await upload(file), variable, file.type);
}

/** A value as a file to upload. */
export function toLocalFile(value: LocalFile | URL | FileContent | string): LocalFile {
  if (value instanceof LocalFile) return value;
  if (!(value instanceof URL)) return new LocalFile(value);
  if (value.protocol !== 'file:') throw new UsageError(`Only a file: URL can be uploaded, not ${value.href}`);
  return new LocalFile(value);
}

/** One file or a list, as the variable requires; if that is not known, a list if the caller's value is one. */
export function fitToVariable(files: readonly unknown[], value: unknown, variable: Variable | undefined): unknown {
  if (variable?.kind === 'file-list') return files;
  if (variable?.kind === 'file' && files.length === 1) return files[0];
  return Array.isArray(value) ? files : files[0];
}

function mapRemoteFile(url: string, variable: Variable | undefined): FileMapping {
  return { type: guessType(new URL(url).pathname, variable), transfer_method: 'remote_url', url };
}

function mapLocalFile(file: UploadedFile, variable: Variable | undefined, explicit?: FileType): FileMapping {
  const name = file.name || `.${file.extension ?? ''}`;
  return { type: explicit ?? guessType(name, variable), transfer_method: 'local_file', upload_file_id: file.id };
}

/** The type of a file by its name, for a variable that may allow only some types. */
export function guessType(name: string, variable: Variable | undefined): string {
  const allowed = variable?.allowedTypes ?? [];
  const guess = KINDS[extensionFromName(name)];
  if (guess !== undefined && (!allowed.length || allowed.includes(guess))) return guess;
  if (!allowed.length) return 'document';
  return allowed.includes('custom') ? 'custom' : (guess ?? allowed[0] ?? 'document');
}

function extensionFromName(name: string): string {
  const dot = name.lastIndexOf('.');
  return dot < 0 ? '' : name.slice(dot + 1).toLowerCase();
}

/** The name of a File, a class that is global only since Node 20. */
function nameOf(blob: Blob): string | undefined {
  return 'name' in blob && typeof blob.name === 'string' && blob.name ? basename(blob.name) : undefined;
}

/** The file name of a stream of `fs.createReadStream`. */
function pathOf(stream: object): string | undefined {
  return 'path' in stream && typeof stream.path === 'string' ? basename(stream.path) : undefined;
}

async function readAll(stream: AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>): Promise<Blob> {
  const chunks: Uint8Array[] = [];
  if (Symbol.asyncIterator in stream) {
    for await (const chunk of stream) chunks.push(toBytes(chunk));
  } else {
    const reader = (stream as ReadableStream<Uint8Array>).getReader();
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) chunks.push(toBytes(chunk.value));
  }
  return new Blob(chunks);
}

function toBytes(chunk: unknown): Uint8Array {
  if (chunk instanceof Uint8Array) return chunk;
  throw new UsageError('The stream does not yield bytes; open it without an encoding.');
}

/** The extension for a file's type or first bytes. */
async function guessExtension(bytes: Blob | Uint8Array | ArrayBuffer): Promise<string> {
  const blob = bytes instanceof Blob ? bytes : new Blob([bytes]);
  const knownExtension = Object.entries(MIME).find(([, type]) => type === blob.type)?.[0];
  if (knownExtension) return knownExtension;
  const head = new Uint8Array(await blob.slice(0, 16).arrayBuffer());
  const text = String.fromCharCode(...head);
  for (const [magic, position, extension] of MAGIC) if (text.startsWith(magic, position)) return extension;
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(await blob.arrayBuffer());
    return 'txt';
  } catch {
    return 'bin'; // not text
  }
}
