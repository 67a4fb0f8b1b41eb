import assert from 'node:assert/strict';
import { createServer as createSocketServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { before, test } from 'node:test';
import { StreamInterruptedError } from 'headrace-client';
import type { EventStream, WorkflowEvent } from 'headrace-client';
import { DETAIL, answering, bytesOf, json, notFound, stream } from './responses.js';
import { Pauses, all, clientOf, dify, errorOf, eventsIn, faults, headrace, recordings } from './servers.js';
import type { Faults, TestServer } from './servers.js';

let real: TestServer;
let toReal: Faults;
let toPeer: Faults;
before(async () => {
  const [headraceServed, difyServed] = await Promise.all([headrace(), dify()]);
  real = headraceServed;
  [toReal, toPeer] = await Promise.all([faults(real), faults(difyServed)]);
});

const CASE = '02_template';
const RECORDED = recordings().get(CASE) ?? new Uint8Array();
// so that cuts fall within characters, too
const OUTPUTS = { text: 'Hello 漢字🙂é 12' };
const WORDS = bytesOf(new TextDecoder().decode(RECORDED).replaceAll('Hello hi! 12', OUTPUTS.text));
const EXPECTED = eventsIn(WORDS);
const ENDED = { ...DETAIL, outputs: JSON.stringify(OUTPUTS) };
const CLOSE = 'Connection: close\r\n\r\n';
const CRLF = Buffer.from('\r\n');

/** The stream of a real run, with its ids. */
async function recordRun(): Promise<{ bytes: Uint8Array; run: string }> {
  let bytes: Uint8Array[] = [];
  const client = clientOf(real, real.keys['hello'] ?? '', {
    fetch: async (url, init) => {
      const answer = await fetch(url, init);
      bytes = [new Uint8Array(await answer.arrayBuffer())];
      return new Response(bytes[0], answer);
    },
  });
  const stream = await client.streamWorkflow({ inputs: { text: 'x 漢字 y' } }).untilDone();
  return { bytes: bytes[0] ?? new Uint8Array(), run: stream.runId ?? '' };
}

/** Responds like Headrace: with what follows an id. */
function following(whole: Uint8Array, after: string | null): Uint8Array {
  const mark = after === null ? '' : `id: ${after}\n\n`;
  const from = new TextDecoder().decode(whole).indexOf(mark) + mark.length;
  return bytesOf(new TextDecoder().decode(whole).slice(from));
}

test('streams.resume-is-exact', async () => {
  const { bytes, run } = await recordRun();
  const expected = eventsIn(bytes);
  const key = real.keys['hello'] ?? '';
  const blocks = [...new TextDecoder().decode(bytes).matchAll(/\n\n/g)].map((match) => match.index ?? 0);
  const client = clientOf(toReal, key, new Pauses().options);
  for (const end of blocks) {
    for (const at of [end - 5, end + 1, end + 2, end + 3]) {
      await toReal.script({ pass: true, cut: at }, { reset: true }, { pass: true, cut: 40 });
      const events = await all(client.followWorkflowRun(run));
      assert.deepEqual(events, expected, `cut after ${at} bytes`);
    }
  }
  // a run that continues meanwhile, and the stream of its own request
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
  const requests = await toReal.requests();
  assert.deepEqual(
    requests.map((request) => request.method),
    ['POST', 'GET'],
  );
});

test('streams.cut-without-resume-ends-with-the-outcome', async () => {
  const expected = eventsIn(RECORDED);
  const first = new TextDecoder().decode(RECORDED).indexOf('\n\n', 200) + 2;
  await toPeer.script({ pass: true, cut: first + 100 });
  const stream = clientOf(toPeer, `app-${CASE}`, new Pauses().options).streamWorkflow({ inputs: {} });
  const events = await all(stream);
  const last = events.at(-1);
  assert.deepEqual(events.slice(0, -1), expected.slice(0, events.length - 1));
  assert.ok(last?.event === 'workflow_finished' && last.synthesized);
  assert.deepEqual(last.data.outputs, { text: 'Hello hi! 12' });
  assert.equal(last.task_id, expected[0]?.['task_id']);
  assert.equal(stream.run?.status, 'succeeded');
});

/** The outcome of a stream: its events, and the error that ended it. */
async function outcomeOf(stream: AsyncIterable<WorkflowEvent>): Promise<[WorkflowEvent[], unknown]> {
  const received: WorkflowEvent[] = [];
  try {
    for await (const event of stream) received.push(event);
  } catch (error) {
    return [received, error];
  }
  return [received, null];
}

/** A faster deepEqual, for thousands of calls. */
function assertSame(actual: readonly unknown[], expected: readonly unknown[], where: string): void {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) assert.deepEqual(actual, expected, where);
}

/** Of a server that does not resume: the events so far and the end, or an error where nothing is known. */
function checkOutcome(events: readonly WorkflowEvent[], error: unknown, where: string): void {
  const last = events.at(-1);
  if (!last) {
    assert.ok(error instanceof StreamInterruptedError && error.runId === null, where);
    return;
  }
  assert.equal(error, null, where);
  assert.ok(last.event === 'workflow_finished', where);
  assert.deepEqual(last.data.outputs, OUTPUTS, where);
  const sent = last.synthesized ? events.slice(0, -1) : events;
  assertSame(sent, EXPECTED.slice(0, sent.length), where);
  if (!last.synthesized) assert.equal(sent.length, EXPECTED.length, where);
}

// without `broken` the cut looks like an end, as if a proxy had lost the server and closed its own response in order
/** Where to cut a stream: at every byte. Where the end looks orderly, which only adds a check at the end of what
 * arrived: at fewer bytes, and around the ends of the frames. */
function places(whole: Uint8Array, broken: boolean): number[] {
  const text = Buffer.from(whole).toString('latin1');
  return [...Array(whole.length + 1).keys()].filter(
    (at) => broken || at % 5 === 0 || text.slice(Math.max(0, at - 4), at + 4).includes('\n\n'),
  );
}

for (const broken of [true, false]) {
  const how = broken ? '' : ', which then ends in order';
  test(`streams.cut-at-every-byte${how}`, async () => {
    for (const at of places(WORDS, broken)) {
      let runs = 0;
      const client = answering((path) => {
        if (path === '/v1/workflows/run' && !runs++) return stream([WORDS.slice(0, at)], broken);
        if (path.startsWith('/v1/workflows/run/')) return json(ENDED);
        return notFound();
      });
      const [events, error] = await outcomeOf(client.streamWorkflow());
      assert.equal(runs, 1);
      checkOutcome(events, error, `cut after ${at} bytes`);
    }
  });

  test(`streams.cut-at-every-byte of a server that resumes${how}`, async () => {
    const { bytes } = await recordRun();
    const expected = eventsIn(bytes);
    const mark = { 'Headrace-API-Version': '1' };
    for (const at of places(bytes, broken)) {
      let first = true;
      const client = answering((path, headers) => {
        if (first) {
          first = false;
          return stream([bytes.slice(0, at)], broken, mark);
        }
        if (path.endsWith('/events') || path.endsWith('/run')) {
          return stream([following(bytes, headers['Last-Event-ID'] ?? null)], false, mark);
        }
        return json({ id: 'r', status: 'running' }, mark);
      });
      const events = await all(client.streamWorkflow({ workflowId: '00000000-0000-4000-8000-000000000000' }));
      assertSame(events, expected, `cut after ${at} bytes`);
    }
  });
}

/** Serves a stream up to a cut, its body framed in this way, over a socket of its own. */
function framed(frame: string, reset: boolean): Server & { cut: number } {
  const server = createSocketServer((socket) => {
    let request = '';
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      request += chunk.toString('latin1');
      const [head = '', body] = request.split('\r\n\r\n');
      if (body === undefined || body.length < Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0)) return;
      const [, path = ''] = head.split(' ');
      if (path !== '/v1/workflows/run') {
        const isDetail = path.startsWith('/v1/workflows/run/');
        const json = isDetail ? JSON.stringify(ENDED) : '{}';
        const size = `Content-Length: ${Buffer.byteLength(json)}`;
        socket.end(
          `HTTP/1.1 ${isDetail ? 200 : 404} X\r\nContent-Type: application/json\r\n${size}\r\n${CLOSE}${json}`,
        );
        return;
      }
      const sent = Buffer.from(WORDS.slice(0, server.cut));
      socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n');
      if (frame === 'content-length') socket.write(`Content-Length: ${WORDS.length}\r\n`);
      if (frame === 'chunked') socket.write(`Transfer-Encoding: chunked\r\n`);
      socket.write(CLOSE);
      if (frame !== 'chunked') socket.write(sent);
      else if (sent.length) socket.write(Buffer.concat([Buffer.from(`${sent.length.toString(16)}\r\n`), sent, CRLF]));
      if (frame === 'chunked' && server.cut === WORDS.length) socket.write('0\r\n\r\n');
      if (reset) setImmediate(() => socket.resetAndDestroy());
      else socket.end();
    });
  }) as Server & { cut: number };
  server.cut = 0;
  return server;
}

for (const frame of ['chunked', 'content-length', 'until-closed']) {
  for (const reset of [false, true]) {
    test(`streams cut over sockets: ${frame}, ${reset ? 'reset' : 'closed'}`, async () => {
      const server = framed(frame, reset);
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const client = clientOf({ url }, 'k', new Pauses().options);
      const first = new TextDecoder().decode(WORDS).indexOf('\n\n') + 2;
      const cuts = [0, 1, WORDS.length - 1, WORDS.length];
      for (let at = first - 1; at < WORDS.length; at += 211) cuts.push(at);
      for (server.cut of cuts) {
        const [events, error] = await outcomeOf(client.streamWorkflow());
        checkOutcome(events, error, `cut after ${server.cut} bytes`);
      }
      server.close();
    });
  }
}

test('streams.cut-before-the-first-event', async () => {
  for (const cut of [0, 60]) {
    await toPeer.script({ pass: true, cut });
    const stream = clientOf(toPeer, `app-${CASE}`, new Pauses().options).streamWorkflow({ inputs: {} });
    const error = await errorOf(all(stream), StreamInterruptedError);
    assert.deepEqual([error.runId, error.taskId, error.lastEvent, error.text], [null, null, null, '']);
    assert.match(error.message, /before anything was known/);
    assert.equal((await toPeer.requests()).length, 1);
  }
});

test('streams.cut-and-no-outcome', async () => {
  const broken = { status: 500, body: { code: 'internal', message: 'no detail', status: 500 } };
  await toPeer.script({ pass: true, cut: 1200 }, broken, broken, broken, broken);
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

test('a stream that breaks again and again is given up', async () => {
  const pauses = new Pauses();
  let connections = 0;
  const client = answering(() => {
    connections++;
    return stream([], true, { 'Headrace-API-Version': '1' });
  }, pauses.options);
  const events: EventStream<WorkflowEvent> = client.streamWorkflow({
    workflowId: '00000000-0000-4000-8000-000000000000',
  });
  await errorOf(all(events), StreamInterruptedError);
  assert.deepEqual([connections, pauses.all], [4, [1, 2]]);
});
