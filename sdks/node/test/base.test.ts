import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { afterEach, before, test } from 'node:test';
import { AuthenticationError, DifyClient, HeadraceError, VERSION } from 'headrace-client';
import { clientOf, dify, errorOf, faults, headrace } from './servers.js';
import type { Faults, Served } from './servers.js';

let real: Served;
let peer: Served;
let fault: Faults;
before(async () => {
  [real, peer] = await Promise.all([headrace(), dify()]);
  fault = await faults(peer);
});
afterEach(() => {
  delete process.env['API_BASE_URL'];
  delete process.env['API_KEY'];
});

test('base.argument-then-environment-then-dify-cloud', () => {
  assert.equal(new DifyClient({ apiKey: 'k' }).baseUrl, 'https://api.dify.ai');
  process.env['API_BASE_URL'] = 'http://dify.example/v1';
  assert.equal(new DifyClient({ apiKey: 'k' }).baseUrl, 'http://dify.example');
  assert.equal(new DifyClient({ apiKey: 'k', baseUrl: 'http://other.example' }).baseUrl, 'http://other.example');
});

test('base.v1-api-api-v1-or-none', async () => {
  for (const path of ['', '/', '/v1', '/v1/', '/api', '/api/v1', '/api/v1//']) {
    const client = clientOf({ url: `${peer.url}${path}` }, peer.keys['02_template'] ?? '');
    assert.equal((await client.getInfo()).name, '02_template', path);
    assert.equal(
      new DifyClient({ apiKey: 'k', baseUrl: `http://h.example/dify${path}` }).baseUrl,
      'http://h.example/dify',
    );
  }
  for (const wrong of [
    'localhost:5001',
    'ftp://h.example',
    'not a url',
    'http://h.example/v1?x=1',
    'http://u:p@h.example',
  ])
    assert.throws(() => new DifyClient({ apiKey: 'k', baseUrl: wrong }), HeadraceError, wrong);
});

test('base.key-is-sent-as-bearer', async () => {
  await fault.script();
  await clientOf(fault, 'app-02_template').getInfo();
  const [came] = await fault.came();
  assert.equal(came?.headers['authorization'], 'Bearer app-02_template');
  assert.match(came.headers['user-agent'] ?? '', new RegExp(`^headrace-client-node/${VERSION}$`));
});

test('base.key-missing-is-an-error', async () => {
  for (const apiKey of [undefined, '', '  ', 'with space', 'ключ']) {
    assert.throws(() => new DifyClient({ apiKey }), HeadraceError);
  }
  process.env['API_KEY'] = 'app-02_template';
  assert.equal((await new DifyClient({ baseUrl: peer.url }).getInfo()).name, '02_template');
});

test('base.key-never-shows', async () => {
  const key = 'app-very-secret';
  const client = clientOf(fault, key);
  await fault.script({ status: 401, body: { code: 'unauthorized', message: `wrong key ${key}`, status: 401 } });
  const error = await errorOf(client.getInfo(), AuthenticationError);
  for (const shown of [inspect(client, { depth: 9, showHidden: true }), JSON.stringify(client), String(client)]) {
    assert.ok(!shown.includes(key));
  }
  assert.ok(!inspect(error, { depth: 9 }).includes(key));
  assert.match(error.message, /wrong key \*\*\*/);
});

async function snippet(apiKey: string, baseUrl: string) {
  process.env['API_BASE_URL'] = baseUrl;
  const client = new DifyClient({ apiKey });
  const response = await client.createWorkflowRun({
    workflowId: 'your-workflow-id',
    inputs: { text: 'Hello World' },
    timeout: 300,
  });
  let status = await client.getWorkflowRunStatus(response.workflow_run_id);
  if (status.status !== 'succeeded') status = await client.wait(response, { polling: { first: 0.05, longest: 0.2 } });
  return status;
}

test('snippet.headrace', async () => {
  const status = await snippet(real.keys['hello'] ?? '', real.url);
  assert.deepEqual([status.status, status.outputs], ['succeeded', { text: 'You said: Hello World' }]);
});

test('snippet.dify', async () => {
  const status = await snippet(peer.keys['02_template'] ?? '', peer.url);
  assert.deepEqual([status.status, status.outputs], ['succeeded', { text: 'Hello hi! 12' }]);
});
