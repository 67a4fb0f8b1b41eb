/** The servers described in `sdks/contract.md`, each in its own process. */

import { execFileSync, spawn } from 'node:child_process';
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

export interface TestServer {
  readonly url: string;
  readonly keys: Readonly<Record<string, string>>;
  /** By the name of each file. */
  readonly apps: Readonly<
    Record<string, { readonly key: string; readonly app_id: string; readonly workflow_id: string }>
  >;
}

const processes: [ChildProcess, string][] = [];

const servers: Server[] = [];

after(async () => {
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
  await Promise.all(processes.map(([child]) => stop(child)));
  for (const [, folder] of processes) rmSync(folder, { recursive: true, force: true });
});

/** Starts `python -m MODULE ARGS --ready-file ...`; it is stopped after the tests of this file. */
async function startServer(
  module: string,
  args: readonly string[],
  running?: string,
): Promise<Record<string, unknown>> {
  if (running) return JSON.parse(running) as Record<string, unknown>;
  const folder = mkdtempSync(join(tmpdir(), 'headrace-client-'));
  const ready = join(folder, 'ready.json');
  const [command = 'python', ...options] = PYTHON;
  const data = module === 'headrace' ? ['--data', join(folder, 'data')] : [];
  const child = spawn(command, [...options, '-m', module, ...args, ...data, '--ready-file', ready], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  processes.push([child, folder]);
  const deadline = Date.now() + STARTS_WITHIN;
  while (!existsSync(ready)) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`${module} did not start:\n${stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return { ...(JSON.parse(readFileSync(ready, 'utf8')) as Record<string, unknown>), folder };
}

function createKnowledgeKey(folder: string): string {
  const [command = 'python', ...options] = PYTHON;
  const args = [...options, '-m', 'headrace', 'keys', 'create', '--knowledge', '--data', join(folder, 'data')];
  return execFileSync(command, args, { cwd: ROOT, encoding: 'utf8' }).trim();
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await exit;
}

export async function headrace(): Promise<TestServer> {
  const flows = ['hello', 'slow', 'files'].map((name) => join(ROOT, 'tests/sdk_contract/flows', `${name}.yml`));
  const args = ['serve', ...flows, '--demo-model', '--host', '127.0.0.1', '--port', '0'];
  const details = await startServer('headrace', args, process.env['HEADRACE_TEST_HEADRACE']);
  const apps: Record<string, TestServer['apps'][string]> = {};
  for (const app of details['apps'] as (TestServer['apps'][string] & { file: string })[]) {
    apps[app.file.replace(/^.*\//, '').replace(/\.yml$/, '')] = app;
  }
  const keys = Object.fromEntries(Object.entries(apps).map(([name, app]) => [name, app.key]));
  keys['knowledge'] = (details['knowledge_key'] as string) ?? createKnowledgeKey(details['folder'] as string);
  return { url: details['url'] as string, keys, apps };
}

export async function dify(): Promise<TestServer> {
  const details = await startServer('tests.sdk_contract.dify_server', [], process.env['HEADRACE_TEST_DIFY']);
  return { url: details['url'] as string, keys: details['keys'] as Record<string, string>, apps: {} };
}

/** A server of the test's own; it is stopped after the tests of this file. */
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

export interface ReceivedRequest {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly at: number;
}

/** A server that follows its script, then forwards to the upstream. */
export class Faults {
  constructor(readonly url: string) {}

  /** Clears the received requests, and sets the script. */
  async script(...steps: readonly Step[]): Promise<void> {
    await fetch(`${this.url}/_requests`, { method: 'DELETE' });
    await fetch(`${this.url}/_script`, { method: 'POST', body: JSON.stringify(steps) });
  }

  async requests(): Promise<ReceivedRequest[]> {
    return (await (await fetch(`${this.url}/_requests`)).json()) as ReceivedRequest[];
  }
}

/** `prefix` is stripped, as by a proxy. */
export async function faults(upstream?: TestServer, prefix = ''): Promise<Faults> {
  const starting = process.env['HEADRACE_TEST_FAULTS'];
  if (starting) {
    const { url } = JSON.parse(starting) as { url: string };
    const body = JSON.stringify({ upstream: upstream?.url ?? null, prefix });
    return new Faults(((await (await fetch(url, { method: 'POST', body })).json()) as { url: string }).url);
  }
  const args = upstream ? ['--upstream', upstream.url, '--prefix', prefix] : [];
  return new Faults((await startServer('tests.sdk_contract.fault_server', args))['url'] as string);
}

/** The simulated pauses of a client, in seconds. */
export class Pauses {
  readonly all: number[] = [];
  now = 0;

  /** Options of a client whose time advances only by sleeping. */
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

/** The recorded streams by case. */
export function recordings(): Map<string, Uint8Array> {
  const streams = new Map<string, Uint8Array>();
  for (const folder of FOLDERS) {
    for (const name of readdirSync(join(ROOT, folder))) {
      const stream = join(ROOT, folder, name, 'response.stream.txt');
      if (existsSync(stream)) streams.set(name, readFileSync(stream));
    }
  }
  return streams;
}

/** The events of a recorded stream, parsed in the simplest way. */
export function eventsIn(stream: Uint8Array): Record<string, unknown>[] {
  return new TextDecoder()
    .decode(stream)
    .split('\n')
    .filter((line) => line.startsWith('data: '))
    .map((line) => JSON.parse(line.slice(6)) as Record<string, unknown>);
}

export async function all<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of iterable) items.push(item);
  return items;
}

/** The error of a rejected promise, which must be of this class. */
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
