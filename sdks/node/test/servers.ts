/** The servers that `sdks/contract.md` tells of, each a process of its own. */

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after } from 'node:test';
import { DifyClient } from 'headrace-client';
import type { ClientOptions } from 'headrace-client';

export const ROOT = process.env['HEADRACE_ROOT'] ?? resolve('../..');
const PYTHON = (process.env['HEADRACE_PYTHON'] ?? 'uv run --no-sync python').split(' ');
const STARTS_WITHIN = 120_000;

export interface Served {
  readonly url: string;
  readonly keys: Readonly<Record<string, string>>;
  /** By the name of each file. */
  readonly apps: Readonly<
    Record<string, { readonly key: string; readonly app_id: string; readonly workflow_id: string }>
  >;
}

const running: [ChildProcess, string][] = [];

const servers: Server[] = [];

after(async () => {
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
  await Promise.all(running.map(([child]) => ended(child)));
  for (const [, folder] of running) rmSync(folder, { recursive: true, force: true });
});

/** Starts `python -m MODULE ARGS --ready-file ...`; it ends with the tests of this file. */
async function started(module: string, args: readonly string[], told?: string): Promise<Record<string, unknown>> {
  if (told) return JSON.parse(told) as Record<string, unknown>;
  const folder = mkdtempSync(join(tmpdir(), 'headrace-client-'));
  const ready = join(folder, 'ready.json');
  const [command = 'python', ...options] = PYTHON;
  const data = module === 'headrace' ? ['--data', join(folder, 'data')] : [];
  const child = spawn(command, [...options, '-m', module, ...args, ...data, '--ready-file', ready], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (piece: Buffer) => (said += piece.toString()));
  running.push([child, folder]);
  const until = Date.now() + STARTS_WITHIN;
  while (!existsSync(ready)) {
    if (child.exitCode !== null || Date.now() > until) throw new Error(`${module} did not get ready:\n${said}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return JSON.parse(readFileSync(ready, 'utf8')) as Record<string, unknown>;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}

export async function headrace(): Promise<Served> {
  const flows = ['hello', 'slow', 'files'].map((name) => join(ROOT, 'tests/sdk_contract/flows', `${name}.yml`));
  const args = ['serve', ...flows, '--host', '127.0.0.1', '--port', '0'];
  const told = await started('headrace', args, process.env['HEADRACE_TEST_HEADRACE']);
  const apps: Record<string, Served['apps'][string]> = {};
  for (const app of told['apps'] as (Served['apps'][string] & { file: string })[]) {
    apps[app.file.replace(/^.*\//, '').replace(/\.yml$/, '')] = app;
  }
  const keys = Object.fromEntries(Object.entries(apps).map(([name, app]) => [name, app.key]));
  return { url: told['url'] as string, keys, apps };
}

export async function dify(): Promise<Served> {
  const told = await started('tests.sdk_contract.dify_server', [], process.env['HEADRACE_TEST_DIFY']);
  return { url: told['url'] as string, keys: told['keys'] as Record<string, string>, apps: {} };
}

/** A server of the test's own; it ends with the tests of this file. */
export async function listening(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ url: string }> {
  const server = createServer(handle);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

export interface Step {
  status?: number;
  headers?: Record<string, string>;
  body?: unknown;
  pass?: true;
  cut?: number;
  reset?: true;
  hang?: number;
}

export interface Came {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly at: number;
}

/** A server that does what the script says, then what the upstream does. */
export class Faults {
  constructor(readonly url: string) {}

  /** Forgets what has come, and sets what is to be done. */
  async script(...steps: readonly Step[]): Promise<void> {
    await fetch(`${this.url}/_requests`, { method: 'DELETE' });
    await fetch(`${this.url}/_script`, { method: 'POST', body: JSON.stringify(steps) });
  }

  async came(): Promise<Came[]> {
    return (await (await fetch(`${this.url}/_requests`)).json()) as Came[];
  }
}

/** `prefix`: what a proxy takes off. */
export async function faults(upstream?: Served, prefix = ''): Promise<Faults> {
  const args = upstream ? ['--upstream', upstream.url, '--prefix', prefix] : [];
  return new Faults((await started('tests.sdk_contract.fault_server', args))['url'] as string);
}

/** Pauses of a client that were not waited for, in seconds. */
export class Pauses {
  readonly all: number[] = [];
  now = 0;

  /** Options of a client whose time goes on only while it sleeps. */
  get options(): ClientOptions {
    return {
      retry: { jitter: 0 },
      sleep: async (seconds) => {
        this.all.push(seconds);
        this.now += seconds;
      },
      clock: () => this.now,
    };
  }
}

export function clientOf(server: { readonly url: string }, apiKey: string, options: ClientOptions = {}): DifyClient {
  return new DifyClient({ apiKey, baseUrl: server.url, user: 'abc-123', ...options });
}

const FOLDERS = ['tests/sdk_contract/data', 'tests/conformance/runs'];

/** The recorded cases whose stream there is, by name. */
export function recordings(): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  for (const folder of FOLDERS) {
    for (const name of readdirSync(join(ROOT, folder))) {
      const stream = join(ROOT, folder, name, 'response.stream.txt');
      if (existsSync(stream)) found.set(name, readFileSync(stream));
    }
  }
  return found;
}

/** The events of a recorded stream, read as simply as can be. */
export function eventsIn(stream: Uint8Array): Record<string, unknown>[] {
  return new TextDecoder()
    .decode(stream)
    .split('\n')
    .filter((line) => line.startsWith('data: '))
    .map((line) => JSON.parse(line.slice(6)) as Record<string, unknown>);
}

export async function all<T>(entries: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const entry of entries) found.push(entry);
  return found;
}

/** What a promise is rejected with, which must be of this class. */
export async function errorOf<E extends Error>(
  promise: Promise<unknown>,
  kind: abstract new (...args: never[]) => E,
): Promise<E> {
  const error = await promise.then(
    (value) => new Error(`no error, but ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  if (error instanceof kind) return error;
  throw error;
}
