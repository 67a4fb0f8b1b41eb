import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { NotFoundError, RunFailedError, StreamInterruptedError, WaitTimeoutError, isFinal } from 'headrace-client';
import type { ClientOptions } from 'headrace-client';
import { Pauses, all, clientOf, dify, errorOf, eventsIn, faults, headrace, listening, recordings } from './servers.js';
import type { Faults, TestServer } from './servers.js';

let real: TestServer;
let peer: TestServer;
let toReal: Faults;
let toPeer: Faults;
before(async () => {
  [real, peer] = await Promise.all([headrace(), dify()]);
  [toReal, toPeer] = await Promise.all([faults(real), faults(peer)]);
});

const UNKNOWN = '00000000-0000-4000-8000-000000000000';
const SOON = { first: 0.02, longest: 0.1 };
const hello = (options?: ClientOptions) => clientOf(real, real.keys['hello'] ?? '', options);
const slow = (options?: ClientOptions) => clientOf(real, real.keys['slow'] ?? '', options);
const template = (options?: ClientOptions) => clientOf(peer, 'app-02_template', options);
const appOf = (name: string) => real.apps[name]?.app_id ?? '';

test('runs.blocking-returns-outputs', async () => {
  const peers = await template().runWorkflow({ inputs: { query: 'hi' } });
  assert.deepEqual(
    [peers.status, peers.outputs, peers.data['outputs']],
    ['succeeded', { text: 'Hello hi! 12' }, peers.outputs],
  );
  for (const workflowId of [undefined, appOf('hello'), real.apps['hello']?.workflow_id]) {
    const run = await hello().runWorkflow({ workflowId, inputs: { text: 'x' } });
    assert.deepEqual([run.status, run.outputs], ['succeeded', { text: 'You said: x' }]);
    assert.deepEqual([run.data['status'], run.data['id']], ['succeeded', run.workflow_run_id]);
    assert.match(run.task_id, /^[0-9a-f-]{36}$/);
    assert.equal(run.id, run.workflow_run_id);
  }
});

test('runs.blocking-failed-run-is-returned', async () => {
  const client = clientOf(peer, 'app-16_fail_code');
  const run = await client.runWorkflow({ inputs: { query: 'hi' } });
  assert.equal(run.status, 'failed');
  assert.ok(run.error);
  const error = await errorOf(client.runWorkflow({ inputs: {}, raiseOnFailure: true }), RunFailedError);
  assert.deepEqual([error.runId, error.taskId, error.message], [run.workflow_run_id, run.task_id, run.error]);
  assert.equal(error.run?.['status'], 'failed');
});

test('runs.create-returns-ids', async () => {
  const created = await slow().createWorkflowRun({ workflowId: appOf('slow'), inputs: { seconds: 20 } });
  assert.equal(created.status, 'queued');
  assert.ok(!isFinal((await slow().getWorkflowRunStatus(created)).status));
  assert.ok(created.workflow_run_id && created.task_id);
  await slow().stopWorkflow(created.task_id);
  const [first] = eventsIn(recordings().get('02_template') ?? new Uint8Array());
  const peers = await template().createWorkflowRun({ inputs: { query: 'hi' } });
  assert.deepEqual([peers.workflow_run_id, peers.task_id], [first?.['workflow_run_id'], first?.['task_id']]);
  assert.equal(peers.status, 'running');
});

test('runs.create-detects-the-server-once', async () => {
  const client = clientOf(toPeer, 'app-02_template');
  await toPeer.script();
  await client.createWorkflowRun({ workflowId: 'a-name', inputs: { query: 'hi' } });
  assert.deepEqual(
    (await toPeer.requests()).map((request) => request.path),
    ['/api/v1/workflows/a-name/run', '/v1/workflows/run'],
  );
  await toPeer.script();
  const created = await client.createWorkflowRun({ workflowId: 'a-name', inputs: { query: 'hi' } });
  await client.getWorkflowRunStatus(created);
  assert.deepEqual(
    (await toPeer.requests()).map((request) => request.path),
    ['/v1/workflows/run', `/v1/workflows/run/${created.workflow_run_id}`],
  );
});

test('runs.create-sends-idempotency-key', async () => {
  const client = clientOf(toReal, real.keys['hello'] ?? '', new Pauses().options);
  await toReal.script({ pass: true, cut: 0 }, { status: 502, body: 'bad gateway' });
  const created = await client.createWorkflowRun({ workflowId: appOf('hello'), inputs: { text: 'once only' } });
  const requests = await toReal.requests();
  const keys = new Set(requests.map((request) => request.headers['idempotency-key']));
  assert.deepEqual([requests.length, keys.size], [3, 1]);
  assert.ok([...keys][0]);
  const runs = await all(hello().listWorkflowRuns({ keyword: 'once only' }));
  assert.deepEqual(
    runs.map((run) => run.id),
    [created.workflow_run_id],
  );
  await toReal.script();
  await client.createWorkflowRun({ workflowId: appOf('hello'), inputs: { text: 'x' }, idempotencyKey: 'mine' });
  assert.equal((await toReal.requests())[0]?.headers['idempotency-key'], 'mine');
});

test('runs.create-closes-the-stream', async () => {
  const [first] = eventsIn(recordings().get('02_template') ?? new Uint8Array());
  let notify: (() => void) | undefined;
  const closed = new Promise<void>((resolve) => (notify = resolve));
  const endless = await listening((_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write(`data: ${JSON.stringify(first)}\n\n`);
    response.on('close', () => notify?.());
  });
  const created = await clientOf(endless, 'k').createWorkflowRun({ inputs: { query: 'hi' } });
  assert.equal(created.workflow_run_id, first?.['workflow_run_id']);
  await closed;
});

test('runs.create-accepts-an-id-that-is-not-a-uuid', async () => {
  const created = await hello().createWorkflowRun({ workflowId: 'your-workflow-id', inputs: { text: 'x' } });
  assert.deepEqual((await hello().wait(created, { polling: SOON })).outputs, { text: 'You said: x' });
  const peers = await template().createWorkflowRun({ workflowId: 'your-workflow-id', inputs: { query: 'hi' } });
  assert.ok(peers.workflow_run_id);
});

test('runs.create-unknown-uuid-is-not-found', async () => {
  for (const client of [hello(), template()]) {
    const error = await errorOf(
      client.createWorkflowRun({ workflowId: UNKNOWN, inputs: { text: 'x' } }),
      NotFoundError,
    );
    assert.match(error.message, /leave workflowId out/);
    assert.equal(error.message.split('leave workflowId out').length, 2);
  }
});

test('runs.status-reads-both', async () => {
  const created = await hello().runWorkflow({ inputs: { text: 'x' } });
  const run = await hello().getWorkflowRunStatus(created.workflow_run_id);
  assert.deepEqual([run.id, run.status, run.outputs], [created.id, 'succeeded', { text: 'You said: x' }]);
  assert.equal(run.inputs?.['text'], 'x');
  const peers = await template().createWorkflowRun({ inputs: { query: 'hi' } });
  const detail = await template().getWorkflowRunStatus(peers);
  assert.deepEqual(
    [detail.id, detail.status, detail.outputs],
    [peers.workflow_run_id, 'succeeded', { text: 'Hello hi! 12' }],
  );
  assert.equal(detail.inputs?.['query'], 'hi');
  assert.deepEqual((await hello().getWorkflowRun(created)).outputs, { text: 'You said: x' });
});

test('runs.status-unknown-is-not-found', async () => {
  for (const client of [hello(), template()]) {
    const error = await errorOf(client.getWorkflowRunStatus(UNKNOWN), NotFoundError);
    assert.equal(error.code, 'not_found');
  }
});

test('runs.wait-follows-the-plan', async () => {
  const running = { id: UNKNOWN, status: 'running', outputs: null };
  const run = (status: string) => ({
    status: 200,
    headers: { 'Headrace-API-Version': '1' },
    body: { ...running, status },
  });
  const pauses = new Pauses();
  await toReal.script(...Array.from({ length: 6 }, () => run('running')), run('succeeded'));
  await clientOf(toReal, 'k', pauses.options).wait(UNKNOWN);
  assert.deepEqual(pauses.all, [1, 1.5, 2.25, 3.375, 5, 5, 5]);
  const chosen = new Pauses();
  await toReal.script(...Array.from({ length: 4 }, () => run('running')));
  const polling = { first: 2, factor: 2, longest: 3, timeout: 9 };
  await errorOf(clientOf(toReal, 'k', chosen.options).wait(UNKNOWN, { polling }), WaitTimeoutError);
  assert.deepEqual(chosen.all, [2, 3, 3, 1]);
  const usual = new Pauses();
  await toReal.script(...Array.from({ length: 70 }, () => run('running')));
  await errorOf(clientOf(toReal, 'k', usual.options).wait(UNKNOWN), WaitTimeoutError);
  assert.ok(Math.abs(usual.now - 300) < 1e-6);
});

test('runs.wait-ends-with-what-is-known', async () => {
  const created = await slow().createWorkflowRun({ workflowId: appOf('slow'), inputs: { seconds: 20 } });
  const waiting = slow().wait(created, { polling: { first: 0.02, longest: 0.02, timeout: 0.2 } });
  const error = await errorOf(waiting, WaitTimeoutError);
  assert.equal(error.runId, created.workflow_run_id);
  assert.ok(error.runStatus && !isFinal(error.runStatus));
  const ended = new AbortController();
  const stopped = slow().wait(created, { signal: ended.signal });
  ended.abort(new Error('enough'));
  assert.equal((await errorOf(stopped, Error)).message, 'enough');
  await slow().stopWorkflow(created.task_id);
});

test('runs.wait-ends-at-every-final-status', async () => {
  const run = (status: string) => ({
    status: 200,
    headers: { 'Headrace-API-Version': '1' },
    body: { id: UNKNOWN, status, outputs: null },
  });
  for (const last of ['succeeded', 'failed', 'stopped', 'partial-succeeded']) {
    await toReal.script(run('queued'), run('running'), run('paused'), run(last));
    assert.equal((await clientOf(toReal, 'k', new Pauses().options).wait(UNKNOWN)).status, last);
  }
  await toReal.script(run('stopped'));
  const raised = clientOf(toReal, 'k', new Pauses().options).wait(UNKNOWN, { raiseOnFailure: true });
  assert.equal((await errorOf(raised, RunFailedError)).code, 'stopped');
});

test('runs.wait-may-end-at-a-pause', async () => {
  const headers = { 'Headrace-API-Version': '1' };
  const paused = { status: 200, headers, body: { id: UNKNOWN, workflow_run_id: UNKNOWN, status: 'paused' } };
  const client = clientOf(toReal, 'k', new Pauses().options);
  await toReal.script(paused);
  assert.equal((await client.wait(UNKNOWN, { continueOnPause: false, raiseOnFailure: true })).status, 'paused');
  await toReal.script({ ...paused, body: { workflow_run_id: UNKNOWN, task_id: 't', status: 'queued' } }, paused);
  const run = await client.runAndWait({ workflowId: UNKNOWN, continueOnPause: false });
  assert.equal(run.status, 'paused');
  assert.equal((await toReal.requests()).length, 2);
});

test('runs.run-and-wait', async () => {
  for (const workflowId of [undefined, appOf('hello')]) {
    const run = await hello().runAndWait({ workflowId, inputs: { text: 'x' } });
    assert.deepEqual([run.status, run.outputs], ['succeeded', { text: 'You said: x' }]);
  }
  const polling = { first: 200 }; // not reached: the response comes when the run ends
  const run = await slow().runAndWait({ workflowId: appOf('slow'), inputs: { seconds: 0.1 }, polling });
  assert.deepEqual(run.outputs, { done: 'slept' });
  const peers = await template().runAndWait({ inputs: { query: 'hi' } });
  assert.deepEqual([peers.status, peers.outputs], ['succeeded', { text: 'Hello hi! 12' }]);
  const failed = clientOf(peer, 'app-16_fail_code').runAndWait({ inputs: {}, raiseOnFailure: true });
  assert.ok((await errorOf(failed, RunFailedError)).runId);
});

test('runs.stop', async () => {
  const created = await slow().createWorkflowRun({ workflowId: appOf('slow'), inputs: { seconds: 20 } });
  assert.deepEqual(await slow().stopWorkflow(created.task_id), { result: 'success' });
  assert.equal((await slow().wait(created, { polling: SOON })).status, 'stopped');
  const second = await slow().createWorkflowRun({ workflowId: appOf('slow'), inputs: { seconds: 20 } });
  assert.match((await slow().stopWorkflowRun(second)).status, /^(running|stopped)$/); // running where it takes long
  assert.equal((await slow().wait(second, { polling: SOON })).status, 'stopped');
  const again = await slow().retryWorkflowRun(second);
  assert.notEqual(again.workflow_run_id, second.workflow_run_id);
  await slow().stopWorkflowRun(again);
});

test('runs.logs-page-by-page', async () => {
  const logs = template().listWorkflowLogs({ limit: 20 });
  assert.equal((await all(logs)).length, 45);
  assert.deepEqual(
    (await all(logs.pages())).map((page) => page.data.length),
    [20, 20, 5],
  );
  assert.equal((await logs.first()).total, 45);
  await toPeer.script();
  for await (const entry of clientOf(toPeer, 'app-02_template').listWorkflowLogs({
    limit: 2,
    status: 'failed',
    createdAtAfter: '2026-01-01',
  })) {
    if (entry.id === 'log-2') break;
  }
  const requests = await toPeer.requests();
  assert.deepEqual(
    requests.map((request) => request.query),
    [
      { status: 'failed', created_at__after: '2026-01-01', page: '1', limit: '2' },
      { status: 'failed', created_at__after: '2026-01-01', page: '2', limit: '2' },
    ],
  );
  const runs = await all(hello().listWorkflowRuns({ limit: 1 }));
  assert.equal(new Set(runs.map((run) => run.id)).size, runs.length);
  assert.ok(runs.length > 2);
  const [nodes] = await Promise.all([hello().listNodeExecutions(runs[0] ?? '')]);
  assert.deepEqual(
    nodes.map((node) => node.node_id),
    ['start', 'greet', 'end'],
  );
});

test('runs.parameters-and-info', async () => {
  for (const [client, name, variable] of [
    [hello(), 'hello', 'text'],
    [template(), '02_template', 'query'],
  ] as const) {
    assert.equal((await client.getInfo()).name, name);
    const [field] = (await client.getParameters()).user_input_form;
    assert.equal(Object.values(field ?? {})[0]?.['variable'], variable);
    assert.deepEqual((await client.getMeta()).tool_icons, {});
    assert.equal((await client.getSite()).title, name);
  }
});

test('runs.fields-unknown-are-kept', async () => {
  await toPeer.script({ status: 200, body: { name: 'n', mode: 'workflow', brand_new: { deep: [1] } } });
  assert.deepEqual((await clientOf(toPeer, 'app-02_template').getInfo())['brand_new'], { deep: [1] });
});

test('a stream that ends before its first event is an error, and starts no second run', async () => {
  await toPeer.script({ status: 200, headers: { 'Content-Type': 'text/event-stream' }, body: 'event: ping\n\n' });
  await errorOf(clientOf(toPeer, 'app-02_template').createWorkflowRun({ inputs: {} }), StreamInterruptedError);
  assert.equal((await toPeer.requests()).length, 1);
});

test('ids are parts of a path, whatever they hold', async () => {
  await toPeer.script();
  await errorOf(clientOf(toPeer, 'app-02_template').getHumanInputForm('..'), Error);
  assert.equal((await toPeer.requests()).length, 0);
  await errorOf(clientOf(toPeer, 'app-02_template', { maxRetries: 0 }).getWorkflowRun('a/../../x?y'), Error);
  assert.ok((await toPeer.requests()).every((request) => request.path.startsWith('/v1/workflows/run/a')));
});

test('runs.chats-are-asked', async () => {
  const [client, workflowId] = [clientOf(real, real.keys['talk'] ?? ''), appOf('talk')];
  const created = await client.createWorkflowRun({ workflowId, query: 'hello' });
  assert.equal(created.message_id, created.workflow_run_id);
  const first = await client.wait(created, { polling: SOON });
  assert.deepEqual([first.query, first.answer], ['hello', '1: hello']);
  const conversationId = created.conversation_id ?? '';
  const second = await client.runAndWait({ workflowId, query: 'again', conversationId });
  assert.deepEqual([second.answer, second.conversation_id], ['2: again', conversationId]);
  await assert.rejects(template().runAndWait({ query: 'hello' }), /query needs Headrace/);
});
