import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { afterEach, before, test } from 'node:test';
import { AuthenticationError, DifyClient, HeadraceError, NotFoundError, TimeoutError, VERSION } from 'headrace-client';
import { clientOf, dify, errorOf, eventsIn, faults, headrace, recordings } from './servers.js';
import type { Faults, TestServer, Step } from './servers.js';

let real: TestServer;
let peer: TestServer;
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

/** By a proxy's prefix: base addresses, and how often it is asked on Dify which is meant before the first call. */
const GUESSES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  '': { '': 0, '/v1': 0, '/api': 2, '/api/v1': 2 },
  '/api': { '/api': 1, '/api/v1/': 1, '/api/api': 0, '/api/api/v1': 0 },
  '/flows': { '/flows': 0, '/flows/v1': 0, '/flows/api': 2, '/flows/api/v1': 2 },
  '/flows/api': { '/flows/api': 1, '/flows/api/api': 0 },
};
const callsOf = async (proxy: Faults) => (await proxy.requests()).map(({ method, path }) => `${method} ${path}`);

test('base.api-may-be-a-prefix', async () => {
  const app = real.apps['hello'];
  const [first] = eventsIn(recordings().get('02_template') ?? new Uint8Array());
  const version = (first?.['data'] as { workflow_id: string }).workflow_id;
  for (const [prefix, guesses] of Object.entries(GUESSES)) {
    const [toReal, toPeer] = await Promise.all([faults(real, prefix), faults(peer, prefix)]);
    for (const [base, count] of Object.entries(guesses)) {
      const ours = clientOf({ url: toReal.url + base }, app?.key ?? '', { polling: { first: 0.02 } });
      for (const workflowId of [app?.app_id, app?.workflow_id]) {
        await toReal.script();
        const run = await ours.createWorkflowRun({ workflowId, inputs: { text: 'hi' } });
        const calls = await callsOf(toReal);
        assert.equal(calls.pop(), `POST ${prefix}/api/v1/workflows/${workflowId}/run`, base);
        // the asynchronous API identifies itself, so that one request is enough
        const guesses =
          workflowId === app?.app_id && count ? [`GET ${base.replace(/\/v1\/?$/, '')}/v1/parameters`] : [];
        assert.deepEqual(calls, guesses, base);
        assert.deepEqual((await ours.wait(run)).outputs, { text: 'You said: hi' });
      }
      assert.deepEqual((await ours.runWorkflow({ inputs: { text: 'hi' } })).outputs, { text: 'You said: hi' });
      assert.equal(ours.baseUrl, toReal.url + prefix);

      await toPeer.script();
      const theirs = clientOf({ url: toPeer.url + base }, 'app-02_template');
      const run = await theirs.createWorkflowRun({ workflowId: version, inputs: { query: 'hi' } });
      const calls = await callsOf(toPeer);
      assert.deepEqual(
        calls.slice(count),
        [`POST ${prefix}/api/v1/workflows/${version}/run`, `POST ${prefix}/v1/workflows/${version}/run`],
        base,
      );
      assert.ok(calls.slice(0, count).every((call) => call.startsWith('GET ')));
      assert.deepEqual((await theirs.getWorkflowRunStatus(run)).outputs, { text: 'Hello hi! 12' });
      assert.equal(theirs.baseUrl, toPeer.url + prefix);
    }
  }
  for (const path of ['', '/api', '/v1'])
    assert.equal(clientOf({ url: `http://api${path}` }, 'k').baseUrl, 'http://api');
});

test('base.api-is-detected-once', async () => {
  const proxy = await faults(peer, '/api');
  const [prefixed, plain] = ['GET /api/v1/parameters', 'GET /v1/parameters'];
  const newClient = (base: string, key = 'app-02_template') =>
    clientOf({ url: proxy.url + base }, key, { retry: { delay: 0.01 } });
  const run = { inputs: { query: 'hi' } };

  await proxy.script();
  let client = newClient('/api');
  await Promise.all(Array.from({ length: 10 }, () => client.getInfo()));
  assert.deepEqual(await callsOf(proxy), [prefixed, ...Array<string>(10).fill('GET /api/v1/info')]);

  // a proxy that does not have the route yet, and one that is overloaded
  const missing: Step = { status: 404, headers: { 'Content-Type': 'text/html' }, body: '<html>not here</html>' };
  await proxy.script(missing, missing, missing);
  client = newClient('/api/v1');
  await errorOf(client.runWorkflow(run), NotFoundError);
  assert.deepEqual(await callsOf(proxy), [prefixed, plain, 'POST /v1/workflows/run']);
  const busy = (status: number): Step => ({ status, body: { code: 'busy', message: 'm', status } });
  await proxy.script(busy(503), busy(429));
  await client.runWorkflow(run);
  assert.deepEqual(await callsOf(proxy), [prefixed, prefixed, prefixed, 'POST /api/v1/workflows/run']);

  // a 401 shows that the server was found
  await proxy.script();
  await errorOf(newClient('/api', 'app-wrong').runWorkflow(run), AuthenticationError);
  assert.deepEqual(await callsOf(proxy), [prefixed, 'POST /api/v1/workflows/run']);
});

test('a call waits for the detection of another only until its timeout', async () => {
  const proxy = await faults(peer, '/api');
  await proxy.script({ hang: 0.8 });
  const client = clientOf({ url: `${proxy.url}/api` }, 'app-02_template', { retry: { delay: 0.01 } });
  const first = client.getInfo();
  await errorOf(client.getInfo({ timeout: 0.05 }), TimeoutError);
  const aborter = new AbortController();
  const aborted = client.getInfo({ signal: aborter.signal });
  aborter.abort(new RangeError('enough'));
  await errorOf(aborted, RangeError);
  assert.equal((await first).name, '02_template');
  assert.equal((await callsOf(proxy)).filter((call) => call.endsWith('/parameters')).length, 2);

  // when no call waits any more, the detection is aborted, and the next call starts it again
  await proxy.script({ hang: 5 });
  const other = clientOf({ url: `${proxy.url}/api` }, 'app-02_template');
  await errorOf(other.getInfo({ timeout: 0.2 }), TimeoutError);
  assert.equal((await other.getInfo()).name, '02_template');
});

test('base.key-is-sent-as-bearer', async () => {
  await fault.script();
  await clientOf(fault, 'app-02_template').getInfo();
  const [request] = await fault.requests();
  assert.equal(request?.headers['authorization'], 'Bearer app-02_template');
  assert.match(request.headers['user-agent'] ?? '', new RegExp(`^headrace-client-node/${VERSION}$`));
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
