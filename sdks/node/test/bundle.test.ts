/** The package in a browser's or an edge runtime's bundle: nothing of Node's is needed, nor there. */

import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { test } from 'node:test';
import { createContext, runInContext } from 'node:vm';
import { build } from 'esbuild';

const PROGRAM = `
import { DifyClient, LocalFile, UsageError } from 'headrace-client';
globalThis.result = (async () => {
  const client = new DifyClient({ apiKey: 'app-x', baseUrl: 'https://headrace.example' });
  const run = await client.runWorkflow({ inputs: { photo: new Blob(['x']) }, workflowId: 'w' });
  const path = await client.uploadFile(new LocalFile('/etc/hostname')).catch((error) => error);
  let key;
  try { new DifyClient(); } catch (error) { key = error; }
  return [run.outputs, path instanceof UsageError, key instanceof UsageError];
})();
`;

async function bundled(conditions: string[]): Promise<string> {
  const { outputFiles, metafile } = await build({
    stdin: { contents: PROGRAM, resolveDir: process.cwd() },
    bundle: true,
    platform: 'browser',
    conditions,
    format: 'iife',
    write: false,
    metafile: true,
    logLevel: 'silent',
  });
  const imports = Object.values(metafile.inputs).flatMap((input) => input.imports.map(({ path }) => path));
  assert.deepEqual(
    imports.filter((path) => path.startsWith('node:')),
    [],
  );
  return outputFiles[0]?.text ?? '';
}

for (const [name, conditions] of [
  ['a browser', ['browser', 'import']],
  ['an edge runtime', ['worker', 'import']],
] as const) {
  test(`bundles for ${name}`, async () => {
    const asked: { url: string; headers: Record<string, string> }[] = [];
    const answer = async (url: string, init: { headers: Record<string, string> }) => {
      asked.push({ url, headers: init.headers });
      const body = url.endsWith('/upload')
        ? { id: 'f', name: 'file.txt', mime_type: 'text/plain', size: 1 }
        : url.endsWith('/parameters')
          ? { user_input_form: [{ file: { variable: 'photo', label: 'photo' } }] }
          : { workflow_run_id: 'r', task_id: 't', data: { id: 'r', status: 'succeeded', outputs: { text: 'hello' } } };
      return new Response(JSON.stringify(body), { headers: { 'Content-Type': 'application/json' } });
    };
    // what both kinds of runtime have, and nothing else: no process, no require, no Buffer
    const { Blob, URL, URLSearchParams, TextDecoder, TextEncoder, AbortController, Response } = globalThis;
    const context = createContext({
      ...{ crypto: webcrypto, Blob, URL, URLSearchParams, TextDecoder, TextEncoder, AbortController, Response },
      ...{ performance, setTimeout, clearTimeout, ReadableStream, fetch: answer, console },
    });
    runInContext(await bundled([...conditions]), context);
    const result = await (runInContext('globalThis.result', context) as Promise<unknown[]>);
    assert.equal(JSON.stringify(result), JSON.stringify([{ text: 'hello' }, true, true]));
    const keys = asked.map(({ headers }) => headers['Idempotency-Key']).filter(Boolean);
    assert.match(keys[0] ?? '', /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
}
