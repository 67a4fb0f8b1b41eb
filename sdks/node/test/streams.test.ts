import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { HeadraceError, NotFoundError, ServerError, ValidationError, isEvent } from 'headrace-client';
import { DETAIL, SSE, answering, bytesOf, json, notFound, streaming, whole } from './responses.js';
import { all, clientOf, dify, errorOf, eventsIn, headrace, listening, recordings } from './servers.js';
import type { TestServer } from './servers.js';

let real: TestServer;
let peer: TestServer;
before(async () => {
  [real, peer] = await Promise.all([headrace(), dify()]);
});

const CASE = '02_template';
const RECORDED = recordings().get(CASE) ?? new Uint8Array();

test('streams.recorded-events-are-returned', async () => {
  const cases = recordings();
  assert.ok(cases.size > 40);
  for (const [name, recorded] of cases) {
    const client = clientOf(peer, `app-${name}`);
    const stream = name.startsWith('3')
      ? client.streamChatMessage({ query: 'x' })
      : client.streamWorkflow({ inputs: { query: 'x' } });
    assert.deepEqual(await all<{ event: string }>(stream), eventsIn(recorded), name);
  }
});

test('streams.first-event-during-the-run', async () => {
  const client = clientOf(real, real.keys['slow'] ?? '');
  const long = client.streamWorkflow({ inputs: { seconds: 20 } });
  const first = await long.next();
  assert.equal(first.value?.event, 'workflow_started');
  assert.equal((await client.getWorkflowRun(long.runId ?? '')).status, 'running');
  await client.stopWorkflow(long.taskId ?? '');
  await long.untilDone();
  assert.equal(long.run?.status, 'stopped');
  const short = await client.streamWorkflow({ inputs: { seconds: 0 } }).untilDone();
  assert.deepEqual([short.run?.status, short.run?.outputs, short.text], ['succeeded', { done: 'slept' }, 'slept']);
});

test('streams.unknown-events-pass-through', async () => {
  const unknown = { event: 'brand_new', workflow_run_id: 'r', data: { deep: [1, { x: null }] }, more: true };
  const ended = { event: 'workflow_finished', workflow_run_id: 'r', task_id: 't', data: { status: 'succeeded' } };
  const client = streaming(
    `data: ${JSON.stringify(unknown)}\n\nevent: named\ndata: not json\n\ndata: ${JSON.stringify(ended)}\n\n`,
  );
  const events = await all(client.streamWorkflow());
  assert.deepEqual(events, [unknown, { event: 'named', data: 'not json' }, ended]);
  assert.ok(events[0] && isEvent(events[0], 'brand_new'));
});

test('streams.lines-may-end-in-any-way', async () => {
  const plain = new TextDecoder().decode(RECORDED);
  const wanted = eventsIn(RECORDED);
  for (const end of ['\n', '\r\n', '\r']) {
    const bytes = bytesOf(
      `\ufeff: a comment\n\n${plain.replace('event: ping', ': x\nevent: ping')}`.replaceAll('\n', end),
    );
    for (const size of [1, 2, 3, 7, 64, bytes.length]) {
      const pieces = [];
      for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.slice(at, at + size));
      assert.deepEqual(await all(streaming(...pieces).streamWorkflow()), wanted, `${JSON.stringify(end)} ${size}`);
    }
  }
  const lines = bytesOf(
    'data: {"event": "workflow_finished",\ndata:"data": {"status": "succeeded", "error": "é漢🙂"}}\n\n',
  );
  const singly = [...lines].map((byte) => Uint8Array.of(byte));
  const [event] = await all(streaming(...singly).streamWorkflow());
  assert.deepEqual(event, { event: 'workflow_finished', data: { status: 'succeeded', error: 'é漢🙂' } });
});

test('streams.closing-early-closes-the-connection', async () => {
  const [first] = eventsIn(RECORDED);
  let closed = 0;
  let notify: (() => void) | undefined;
  const endless = await listening((_, response) => {
    response.writeHead(200, SSE);
    response.write(`data: ${JSON.stringify(first)}\n\n`);
    response.on('close', () => {
      closed++;
      notify?.();
    });
  });
  const next = () => new Promise<void>((resolve) => (notify = resolve));
  let gone = next();
  for await (const event of clientOf(endless, 'k').streamWorkflow()) {
    assert.equal(event.event, 'workflow_started');
    break;
  }
  await gone;
  gone = next();
  const stream = clientOf(endless, 'k').streamWorkflow();
  await stream.next();
  const waiting = stream.next();
  await stream.close();
  assert.deepEqual(await waiting, { done: true, value: undefined });
  assert.equal((await stream.next()).done, true);
  await gone;
  gone = next();
  const ended = new AbortController();
  const reason = new Error('enough');
  const error = await errorOf(
    (async () => {
      for await (const event of clientOf(endless, 'k').streamWorkflow({ signal: ended.signal })) {
        if (event.event === 'workflow_started') ended.abort(reason);
      }
    })(),
    Error,
  );
  assert.equal(error, reason);
  await gone;
  assert.equal(closed, 3);
});

test('streams.status-error-before-the-stream', async () => {
  const stream = clientOf(real, real.keys['hello'] ?? '').streamWorkflow({ inputs: {} });
  const error = await errorOf(all(stream), ValidationError);
  assert.deepEqual([error.status, error.code], [400, 'invalid_param']);
});

test('streams.error-event-is-returned', async () => {
  const started = { event: 'workflow_started', workflow_run_id: 'r', task_id: 't', data: {} };
  const failed = {
    event: 'error',
    workflow_run_id: 'r',
    task_id: 't',
    status: 500,
    code: 'internal',
    message: 'broke',
  };
  const client = streaming(`data: ${JSON.stringify(started)}\n\ndata: ${JSON.stringify(failed)}\n\n`);
  assert.deepEqual(await all(client.streamWorkflow()), [started, failed]);
  const error = await errorOf(
    streaming(`data: ${JSON.stringify(failed)}\n\n`).createWorkflowRun({ inputs: {} }),
    HeadraceError,
  );
  assert.deepEqual([error.message, error.status, error.code, error.runId], ['broke', 500, 'internal', 'r']);
});

test('streams.silence-is-a-cut', async () => {
  const [first] = eventsIn(RECORDED);
  let asked = 0;
  const silent = await listening((request, response) => {
    if (request.url === '/v1/workflows/run') {
      asked++;
      response.writeHead(200, SSE);
      response.write(`data: ${JSON.stringify(first)}\n\n`);
    } else if (request.url?.startsWith('/v1/workflows/run/')) {
      response.writeHead(200, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(DETAIL));
    } else response.writeHead(404).end('<html>');
  });
  const client = clientOf(silent, 'k', { streamSilence: 0.1 });
  const events = await all(client.streamWorkflow());
  assert.deepEqual(
    events.map((event) => event.event),
    ['workflow_started', 'workflow_finished'],
  );
  assert.equal(asked, 1);
});

test('a hundred thousand events come through, and no line is searched twice', async () => {
  const chunk = `data: ${JSON.stringify({ event: 'text_chunk', workflow_run_id: 'r', task_id: 't', data: { text: 'x' } })}\n\n`;
  const end = `data: ${JSON.stringify({ event: 'workflow_finished', data: { status: 'succeeded', outputs: {} } })}\n\n`;
  const big = `data: ${JSON.stringify({ event: 'text_chunk', data: { text: 'y'.repeat(4_000_000) } })}\n\n`;
  const pieces = Array.from({ length: 100 }, () => chunk.repeat(1000));
  for (let at = 0; at < big.length; at += 1000) pieces.push(big.slice(at, at + 1000));
  const stream = streaming(...pieces, end).streamWorkflow();
  let count = 0;
  for await (const _ of stream) count++;
  assert.deepEqual([count, stream.text.length], [100_002, 4_100_000]);
});

test('a page or JSON in place of a stream is described in the error', async () => {
  const page = '<html><title>x</title><body><h1>Log in</h1></body></html>';
  for (const [body, type, words] of [
    [page, 'text/html', /not an event stream: .*Log in/],
    ['{"message": "try later"}', 'application/json', /not an event stream: .*try later/],
  ] as const) {
    const client = answering(() => whole(body, 200, { 'Content-Type': type }));
    for (const promise of [all(client.streamWorkflow()), client.createWorkflowRun({ inputs: {} })]) {
      const error = await errorOf(promise, ServerError);
      assert.match(error.message, words);
      assert.equal(error.status, 200);
    }
  }
});

test('a server is detected only once', async () => {
  const mark = { 'Headrace-API-Version': '1' };
  const asked: string[] = [];
  const client = answering((path) => {
    asked.push(path);
    if (asked.length === 2) return notFound(); // of something in between
    return json({ workflow_run_id: 'r', task_id: 't', status: 'queued' }, mark);
  });
  const workflowId = '00000000-0000-4000-8000-000000000000';
  await client.createWorkflowRun({ workflowId, inputs: {} });
  await errorOf(client.createWorkflowRun({ workflowId, inputs: {} }), NotFoundError);
  await client.createWorkflowRun({ workflowId, inputs: {} });
  assert.deepEqual(asked, Array(3).fill(`/api/v1/workflows/${workflowId}/run`));
});
