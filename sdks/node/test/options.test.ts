import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  HeadraceError,
  NotFoundError,
  RunFailedError,
  ServerError,
  UsageError,
  WaitTimeoutError,
  TimeoutError,
  raiseForStatus,
  responseOf,
} from 'headrace-client';
import type { DifyClient } from 'headrace-client';
import { Pauses, clientOf, errorOf, faults, headrace } from './servers.js';
import type { Faults, TestServer } from './servers.js';

const KEY = 'app-secret-key';
const INFO = { status: 200, body: { name: 'x' }, headers: { 'X-Request-Id': 'req-1' } };
let server: TestServer;
let fault: Faults;
before(async () => {
  server = await headrace();
  fault = await faults();
});

function streamOf(event: string, data: object) {
  const body = `data: ${JSON.stringify({ event, workflow_run_id: 'r', task_id: 't', data })}\n\n`;
  return { status: 200, body, headers: { 'Content-Type': 'text/event-stream', 'X-Request-Id': 'req-2' } };
}

test('rest.with-options', async () => {
  const client = clientOf(fault, KEY, { headers: { 'X-Team': 'shop' }, ...new Pauses().options });
  await fault.script(INFO, INFO, { status: 503 }, { status: 200, body: { result: 'success' } });
  await client.withOptions({ headers: { 'X-Trace': '7' } }).getInfo();
  await client.getInfo();
  await errorOf(client.withOptions({ maxRetries: 0 }).getInfo(), ServerError);
  await client.withOptions({ user: 'you' }).stopWorkflow('t');
  const [first, second, , stopped] = await fault.requests();
  const sent = [first, second].map((request) => [request?.headers['X-Team'] ?? request?.headers['x-team']]);
  assert.deepEqual(sent, [['shop'], ['shop']]);
  const traces = [first, second].map((request) => request?.headers['X-Trace'] ?? request?.headers['x-trace'] ?? null);
  assert.deepEqual(traces, ['7', null]);
  assert.match(stopped?.body ?? '', /"you"/);
});

test('rest.with-options: what is known about the server is shared', async () => {
  const workflowId = '00000000-0000-4000-8000-000000000000';
  const client = clientOf(fault, KEY);
  const started = streamOf('workflow_started', { id: 'r', workflow_id: workflowId });
  await fault.script({ status: 404, body: '<html>' }, started, started);
  await client.withOptions({ user: 'a' }).createWorkflowRun({ workflowId });
  await client.withOptions({ user: 'b' }).createWorkflowRun({ workflowId });
  const paths = (await fault.requests()).map(({ path }) => path);
  assert.deepEqual(paths, [
    `/api/v1/workflows/${workflowId}/run`,
    `/v1/workflows/${workflowId}/run`,
    `/v1/workflows/${workflowId}/run`,
  ]);
});

test('rest.responses-and-request-ids', async () => {
  const client = clientOf(fault, KEY);
  const run = { workflow_run_id: 'r', task_id: 't', data: { id: 'r', status: 'succeeded', outputs: {} } };
  const headers = { 'X-Request-Id': 'req-2' };
  await fault.script(
    INFO,
    { status: 200, body: run, headers },
    { status: 200, body: { data: [], has_more: false }, headers },
    streamOf('workflow_finished', { status: 'succeeded' }),
  );
  const info = await client.getInfo();
  const response = responseOf(info);
  assert.deepEqual([response?.status, response?.requestId], [200, 'req-1']);
  assert.deepEqual(JSON.parse(new TextDecoder().decode(response?.bytes)), info);
  assert.equal(responseOf(await client.runWorkflow())?.requestId, 'req-2');
  assert.equal(responseOf(await client.listWorkflowLogs().first())?.requestId, 'req-2');
  const stream = client.streamWorkflow();
  assert.equal(stream.requestId, null);
  for await (const event of stream) assert.equal(event.event, 'workflow_finished');
  assert.equal(stream.requestId, 'req-2');
  assert.equal(responseOf({}), undefined);
});

test('rest.logging', async () => {
  const lines: string[] = [];
  const note = (message: string) => void lines.push(message);
  const client = clientOf(fault, KEY, { ...new Pauses().options, logger: { debug: note, info: note } });
  await fault.script({ status: 503, body: { message: `not yet, ${KEY}` } }, INFO);
  await client.getInfo();
  assert.match(lines[0] ?? '', /^GET \/v1\/info returned 503 in /);
  assert.match(lines[1] ?? '', /retrying in 1\.0 s$/);
  assert.match(lines[2] ?? '', /request req-1$/);
  assert.ok(!lines.join('\n').includes(KEY));
});

test('errors.every-failure-is-a-headrace-error', async () => {
  const cycle: Record<string, unknown> = {};
  cycle['cycle'] = cycle;
  const calls: Record<string, (client: DifyClient) => Promise<unknown>> = {
    'an id that names another path': (client) => client.getWorkflowRun('..'),
    'a run without an id': (client) => client.wait({ id: '' }),
    'a file that is not there': (client) => client.uploadFile('/not/there.txt'),
    'an input that is not JSON': (client) => client.runWorkflow({ inputs: cycle }),
    'a number that JSON does not have': (client) => client.runWorkflow({ inputs: { x: 1n } }),
  };
  for (const [name, call] of Object.entries(calls)) {
    const error = await errorOf(call(clientOf(fault, KEY)), UsageError);
    assert.ok(error instanceof HeadraceError, name);
  }
  await fault.script({ status: 200, body: '<html>' });
  assert.ok((await errorOf(clientOf(fault, KEY).getInfo(), ServerError)) instanceof HeadraceError);
  for (const options of [{ apiKey: '' }, { apiKey: 'x', baseUrl: 'ftp://x' }, { apiKey: 'x', timeout: -1 }]) {
    const { DifyClient: Client } = await import('headrace-client');
    assert.throws(() => new Client(options), UsageError);
  }
});

test('errors.times-have-units', async () => {
  const running = { status: 200, body: { id: 'r', status: 'running' } };
  await fault.script({ status: 404, body: '' }, running, running, running, running);
  const client = clientOf(fault, KEY, new Pauses().options);
  assert.match((await errorOf(client.wait('r', { polling: { timeout: 1 } }), WaitTimeoutError)).message, /1 second;/);
  await fault.script({ status: 503 }, { status: 503 }, { status: 503 });
  assert.match((await errorOf(client.getInfo({ timeout: 2.5 }), TimeoutError)).message, /timed out after 2\.5 seconds/);
});

test('errors.node-in-every-way-to-run', async () => {
  const { key = '', app_id: workflowId } = server.apps['slow'] ?? {};
  const client = clientOf(server, key);
  const inputs = { seconds: -1 };
  const stream = client.streamWorkflow({ inputs });
  const created = await client.createWorkflowRun({ workflowId, inputs });
  const ways: (() => Promise<unknown>)[] = [
    () => client.runWorkflow({ inputs, raiseOnFailure: true }),
    () => client.runWorkflow({ inputs, workflowId, raiseOnFailure: true }),
    () => client.runAndWait({ inputs, raiseOnFailure: true }),
    () => client.runAndWait({ inputs, workflowId, raiseOnFailure: true }),
    () => client.wait(created, { raiseOnFailure: true }),
    async () => raiseForStatus((await stream.untilDone()).run ?? assert.fail('the run did not end')),
  ];
  const nodes = new Set<string>();
  for (const way of ways) {
    const { node } = await errorOf(way(), RunFailedError);
    assert.ok(node?.title, String(way));
    nodes.add(node.node_id);
  }
  assert.equal(nodes.size, 1);
});

test('errors.node-in-every-way-to-run: a failed run is an answer although its node cannot be had', async () => {
  const run = { workflow_run_id: 'r', task_id: 't', data: { id: 'r', status: 'failed', error: 'it broke' } };
  await fault.script({ status: 200, body: run }); // what is read next is a 404
  const answer = await clientOf(fault, KEY).runWorkflow();
  assert.deepEqual([answer.status, answer.error, answer.error_node], ['failed', 'it broke', undefined]);
  assert.ok(!(answer instanceof NotFoundError));
});

test('rest.headers: replaced however they are written', async () => {
  const client = clientOf(fault, KEY, { headers: { 'X-Team': 'shop', authorization: 'Bearer other' } });
  await fault.script(INFO);
  await client.withOptions({ headers: { 'x-team': 'desk' } }).getInfo();
  const [request] = await fault.requests();
  const sent = Object.entries(request?.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]);
  assert.deepEqual(sent.filter(([name]) => name === 'x-team' || name === 'authorization').sort(), [
    ['authorization', `Bearer ${KEY}`],
    ['x-team', 'desk'],
  ]);
});

test('errors: headers that cannot be', () => {
  for (const headers of [{ X: 'a\nb' }, { X: '\u62a5' }, { 'X Y': '1' }]) {
    assert.throws(() => clientOf(fault, KEY, { headers }), UsageError);
    assert.throws(() => clientOf(fault, KEY).withOptions({ headers }), UsageError);
  }
});

test('rest.with-options: a retry policy takes effect, whatever the client was created with', async () => {
  const client = clientOf(fault, KEY, { maxRetries: 5, ...new Pauses().options });
  await fault.script({ status: 503 }, INFO);
  await errorOf(client.withOptions({ retry: { maxRetries: 0 } }).getInfo(), ServerError);
});
