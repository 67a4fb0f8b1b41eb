import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { HeadraceError, StreamInterruptedError, ValidationError, isEvent } from 'headrace-client';
import type { ClientOptions, EventStream, WorkflowEvent } from 'headrace-client';
import { Pauses, all, clientOf, dify, errorOf, eventsIn, faults, headrace, listening, recordings } from './servers.js';
import type { Faults, Served } from './servers.js';

let real: Served;
let peer: Served;
let toReal: Faults;
let toPeer: Faults;
before(async () => {
  [real, peer] = await Promise.all([headrace(), dify()]);
  [toReal, toPeer] = await Promise.all([faults(real), faults(peer)]);
});

const CASE = '02_template';
const RECORDED = recordings().get(CASE) ?? new Uint8Array();
const DETAIL = { id: 'run-1', workflow_id: 'w', status: 'succeeded', outputs: '{"text": "Hello hi! 12"}', error: null };
const SSE = { 'Content-Type': 'text/event-stream' };
const text = new TextEncoder();

/** A body of these pieces, which then breaks off, unless it is to end in order. */
function body(pieces: readonly Uint8Array[], broken = false): ReadableStream<Uint8Array> {
  const left = [...pieces];
  return new ReadableStream({
    pull(controller) {
      const piece = left.shift();
      if (piece) controller.enqueue(piece);
      else if (broken) controller.error(new TypeError('terminated'));
      else controller.close();
    },
  });
}

const json = (told: object, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(told), { headers: { 'Content-Type': 'application/json', ...headers } });

/** A client whose server answers so, without a network. */
function answering(answer: (path: string, headers: Headers) => Response, options: ClientOptions = {}) {
  return clientOf({ url: 'http://h.example' }, 'k', {
    ...new Pauses().options,
    fetch: async (url, init) => answer(new URL(url).pathname, new Headers(init.headers)),
    ...options,
  });
}

const streaming = (...pieces: (string | Uint8Array)[]) =>
  answering(
    () =>
      new Response(body(pieces.map((each) => (typeof each === 'string' ? text.encode(each) : each))), { headers: SSE }),
  );

test('streams.recorded-events-are-told', async () => {
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

test('streams.first-event-while-the-run-goes-on', async () => {
  const client = clientOf(real, real.keys['slow'] ?? '');
  const stream = client.streamWorkflow({ inputs: { seconds: 1 } });
  const began = performance.now();
  const first = await stream.next();
  assert.equal(first.value?.event, 'workflow_started');
  assert.ok(performance.now() - began < 500);
  assert.equal((await client.getWorkflowRun(stream.runId ?? '')).status, 'running');
  await stream.untilDone();
  assert.deepEqual([stream.run?.status, stream.run?.outputs, stream.text], ['succeeded', { done: 'slept' }, 'slept']);
});

test('streams.unknown-events-pass-through', async () => {
  const told = { event: 'brand_new', workflow_run_id: 'r', data: { deep: [1, { x: null }] }, more: true };
  const ended = { event: 'workflow_finished', workflow_run_id: 'r', task_id: 't', data: { status: 'succeeded' } };
  const client = streaming(
    `data: ${JSON.stringify(told)}\n\nevent: named\ndata: not json\n\ndata: ${JSON.stringify(ended)}\n\n`,
  );
  const events = await all(client.streamWorkflow());
  assert.deepEqual(events, [told, { event: 'named', data: 'not json' }, ended]);
  assert.ok(events[0] && isEvent(events[0], 'brand_new'));
});

test('streams.lines-may-end-in-any-way', async () => {
  const plain = new TextDecoder().decode(RECORDED);
  const wanted = eventsIn(RECORDED);
  for (const end of ['\n', '\r\n', '\r']) {
    const bytes = text.encode(
      `\ufeff: a comment\n\n${plain.replace('event: ping', ': x\nevent: ping')}`.replaceAll('\n', end),
    );
    for (const size of [1, 2, 3, 7, 64, bytes.length]) {
      const pieces = [];
      for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.slice(at, at + size));
      assert.deepEqual(await all(streaming(...pieces).streamWorkflow()), wanted, `${JSON.stringify(end)} ${size}`);
    }
  }
  const lines = text.encode(
    'data: {"event": "workflow_finished",\ndata:"data": {"status": "succeeded", "error": "é漢🙂"}}\n\n',
  );
  const singly = [...lines].map((byte) => Uint8Array.of(byte));
  const [event] = await all(streaming(...singly).streamWorkflow());
  assert.deepEqual(event, { event: 'workflow_finished', data: { status: 'succeeded', error: 'é漢🙂' } });
});

/** The stream that a real run gave, with its ids. */
async function ran(): Promise<{ bytes: Uint8Array; run: string }> {
  let bytes: Uint8Array[] = [];
  const client = clientOf(real, real.keys['hello'] ?? '', {
    fetch: async (url, init) => {
      const answer = await fetch(url, init);
      bytes = [new Uint8Array(await answer.arrayBuffer())];
      return new Response(body(bytes), answer);
    },
  });
  const stream = await client.streamWorkflow({ inputs: { text: 'x 漢字 y' } }).untilDone();
  return { bytes: bytes[0] ?? new Uint8Array(), run: stream.runId ?? '' };
}

/** Answers as Headrace does: all that follows an id. */
function following(whole: Uint8Array, after: string | null): Uint8Array {
  const mark = after === null ? '' : `id: ${after}\n\n`;
  const from = new TextDecoder().decode(whole).indexOf(mark) + mark.length;
  return text.encode(new TextDecoder().decode(whole).slice(from));
}

test('streams.resume-is-exact', async () => {
  const { bytes, run } = await ran();
  const wanted = eventsIn(bytes);
  const key = real.keys['hello'] ?? '';
  const blocks = [...new TextDecoder().decode(bytes).matchAll(/\n\n/g)].map((found) => found.index ?? 0);
  const client = clientOf(toReal, key, new Pauses().options);
  for (const end of blocks) {
    for (const at of [end - 5, end + 1, end + 2, end + 3]) {
      await toReal.script({ pass: true, cut: at }, { reset: true }, { pass: true, cut: 40 });
      const events = await all(client.followWorkflowRun(run));
      assert.deepEqual(events, wanted, `cut after ${at} bytes`);
    }
  }
  // a run that goes on meanwhile, and the stream of its own request
  await toReal.script({ pass: true, cut: 700 });
  const workflowId = real.apps['slow']?.app_id;
  const slow = clientOf(toReal, real.keys['slow'] ?? '', new Pauses().options);
  const live = await all(slow.streamWorkflow({ workflowId, inputs: { seconds: 0.3 } }));
  assert.deepEqual(
    live.map((event) => event.event),
    [
      'workflow_started',
      'node_started',
      'node_finished',
      'node_started',
      'text_chunk',
      'node_finished',
      'node_started',
      'node_finished',
      'workflow_finished',
    ],
  );
  const came = await toReal.came();
  assert.deepEqual(
    came.map((each) => each.method),
    ['POST', 'GET'],
  );
});

test('streams.cut-without-resume-ends-with-the-outcome', async () => {
  const wanted = eventsIn(RECORDED);
  const first = new TextDecoder().decode(RECORDED).indexOf('\n\n', 200) + 2;
  await toPeer.script({ pass: true, cut: first + 100 });
  const stream = clientOf(toPeer, `app-${CASE}`, new Pauses().options).streamWorkflow({ inputs: {} });
  const events = await all(stream);
  const last = events.at(-1);
  assert.deepEqual(events.slice(0, -1), wanted.slice(0, events.length - 1));
  assert.ok(last?.event === 'workflow_finished' && last.synthesized);
  assert.deepEqual(last.data.outputs, { text: 'Hello hi! 12' });
  assert.equal(last.task_id, wanted[0]?.['task_id']);
  assert.equal(stream.run?.status, 'succeeded');
});

test('streams.cut-at-every-byte', async () => {
  const wanted = eventsIn(RECORDED);
  const whole = (events: readonly WorkflowEvent[]) => {
    const told = events.map((event) => JSON.stringify(event));
    return told.length === new Set(told).size;
  };
  for (let at = 0; at <= RECORDED.length; at++) {
    let asked = 0;
    const client = answering((path) => {
      if (path === '/v1/workflows/run' && !asked++)
        return new Response(body([RECORDED.slice(0, at)], true), { headers: SSE });
      if (path.startsWith('/v1/workflows/run/')) return json(DETAIL);
      return new Response('<html>not found</html>', { status: 404 });
    });
    const stream = client.streamWorkflow();
    const events: WorkflowEvent[] = [];
    let error: unknown = null;
    try {
      for await (const event of stream) events.push(event);
    } catch (caught) {
      error = caught;
    }
    assert.equal(asked, 1);
    const known = events.length;
    if (!known) {
      assert.ok(error instanceof StreamInterruptedError && error.runId === null, String(at));
      continue;
    }
    assert.equal(error, null);
    const last = events.at(-1);
    assert.ok(last?.event === 'workflow_finished', `${at}`);
    assert.deepEqual(events.slice(0, -1), wanted.slice(0, known - 1));
    assert.ok(whole(events));
    if (!last.synthesized) assert.deepEqual(events, wanted);
  }
  const { bytes } = await ran();
  const told = eventsIn(bytes);
  for (let at = 0; at <= bytes.length; at += 1) {
    let first = true;
    const client = answering((path, headers) => {
      const mark = { ...SSE, 'Headrace-API-Version': '1' };
      if (first) {
        first = false;
        return new Response(body([bytes.slice(0, at)], true), { headers: mark });
      }
      if (path.endsWith('/events') || path.endsWith('/run')) {
        return new Response(body([following(bytes, headers.get('last-event-id'))]), { headers: mark });
      }
      return json({ id: 'r', status: 'running' }, { 'Headrace-API-Version': '1' });
    });
    const stream = client.streamWorkflow({ workflowId: '00000000-0000-4000-8000-000000000000' });
    assert.deepEqual(await all(stream), told, `cut after ${at} bytes`);
  }
});

test('streams.cut-before-the-first-event', async () => {
  for (const cut of [0, 60]) {
    await toPeer.script({ pass: true, cut });
    const stream = clientOf(toPeer, `app-${CASE}`, new Pauses().options).streamWorkflow({ inputs: {} });
    const error = await errorOf(all(stream), StreamInterruptedError);
    assert.deepEqual([error.runId, error.taskId, error.lastEvent, error.text], [null, null, null, '']);
    assert.match(error.message, /before anything was known/);
    assert.equal((await toPeer.came()).length, 1);
  }
});

test('streams.cut-and-no-outcome', async () => {
  const broken = { status: 500, body: { code: 'internal', message: 'no detail', status: 500 } };
  const gone = { status: 404, body: '<html>not found</html>' };
  await toPeer.script({ pass: true, cut: 1200 }, gone, broken, broken, broken, broken);
  const stream = clientOf(toPeer, `app-${CASE}`, new Pauses().options).streamWorkflow({ inputs: {} });
  const events: WorkflowEvent[] = [];
  const error = await errorOf(
    (async () => {
      for await (const event of stream) events.push(event);
    })(),
    StreamInterruptedError,
  );
  const [first] = eventsIn(RECORDED);
  assert.deepEqual([error.runId, error.taskId], [first?.['workflow_run_id'], first?.['task_id']]);
  assert.deepEqual(error.lastEvent, events.at(-1));
  assert.match(error.message, /no detail/);
  assert.deepEqual([error.status, error.code], [500, 'internal']);
});

test('streams.closing-early-closes-the-connection', async () => {
  const [first] = eventsIn(RECORDED);
  let closed = 0;
  let told: (() => void) | undefined;
  const endless = await listening((_, response) => {
    response.writeHead(200, SSE);
    response.write(`data: ${JSON.stringify(first)}\n\n`);
    response.on('close', () => {
      closed++;
      told?.();
    });
  });
  const next = () => new Promise<void>((resolve) => (told = resolve));
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

test('streams.error-event-is-told', async () => {
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

test('a stream that breaks again and again is given up', async () => {
  const pauses = new Pauses();
  let connections = 0;
  const client = answering(() => {
    connections++;
    return new Response(body([], true), { headers: { ...SSE, 'Headrace-API-Version': '1' } });
  }, pauses.options);
  const stream: EventStream<WorkflowEvent> = client.streamWorkflow({
    workflowId: '00000000-0000-4000-8000-000000000000',
  });
  await errorOf(all(stream), StreamInterruptedError);
  assert.deepEqual([connections, pauses.all], [4, [1, 2]]);
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
