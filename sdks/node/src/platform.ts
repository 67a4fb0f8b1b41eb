/** What differs between Node, browsers and edge runtimes. Node's modules are imported only when they are needed. */

import { UsageError } from './errors.js';

/** An environment variable; undefined if it is not set, or if there is no environment. */
export function environment(name: string): string | undefined {
  return typeof process === 'undefined' ? undefined : process.env?.[name];
}

/** A random UUID. Only Node 18 has no global Web Crypto without a flag. */
export async function randomUuid(): Promise<string> {
  const bytes = new Uint8Array(16);
  const global = globalThis as { crypto?: { getRandomValues(bytes: Uint8Array): unknown } };
  const source = global.crypto ?? (await nodeModule<typeof import('node:crypto')>('node:crypto')).webcrypto;
  source.getRandomValues(bytes);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** The bytes of a file: a path or a `file:` URL. UsageError if it cannot be read, or the runtime has no files. */
export async function readFile(path: string | URL): Promise<Uint8Array> {
  try {
    return await (await nodeModule<typeof import('node:fs/promises')>('node:fs/promises')).readFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UsageError(`${String(path)} cannot be read: ${reason}`, { cause });
  }
}

/** The last part of a path of any operating system. */
export function basename(path: string): string {
  return path.split(/[\\/]/).at(-1) ?? '';
}

/** A module of Node's, imported in a way that bundlers ignore. */
async function nodeModule<M>(name: string): Promise<M> {
  return (await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as M;
}
