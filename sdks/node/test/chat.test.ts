import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { createServer } from 'node:https';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { before, test } from 'node:test';
import { ConnectionError, StreamInterruptedError, TimeoutError } from 'headrace-client';
import type { Fetch, FetchInit } from 'headrace-client';
import type * as undici from 'undici-types';
import { Pauses, all, clientOf, dify, errorOf, eventsIn, faults, headrace, recordings } from './servers.js';
import type { Faults, TestServer } from './servers.js';

const CHAT = 'app-33_chat_llm';
const TURN = 'app-38_chat_convvar_turn2';
const RECORDED = recordings().get('33_chat_llm') ?? new Uint8Array();
const ANSWER = eventsIn(RECORDED)
  .filter((event) => event['event'] === 'message')
  .map((event) => event['answer'])
  .join('');
const SSE = { 'Content-Type': 'text/event-stream' };
let real: TestServer;
let peer: TestServer;
let fault: Faults;
before(async () => {
  [real, peer] = await Promise.all([headrace(), dify()]);
  fault = await faults(peer);
});

const bodies = async () =>
  (await fault.requests()).map((request) => (request.body ? (JSON.parse(request.body) as unknown) : null));
const conversation = async () => (await clientOf(peer, TURN).listConversations().first()).data[0]?.id ?? '';

test('chat.blocking', async () => {
  const message = await clientOf(peer, CHAT).sendChatMessage({ query: 'how are you' });
  assert.equal(message.answer, ANSWER);
  assert.ok(message.message_id && message.conversation_id);
  await fault.script();
  await clientOf(fault, TURN).sendChatMessage({ query: 'two', conversationId: 'c', autoGenerateName: false });
  assert.deepEqual(await bodies(), [
    {
      inputs: {},
      query: 'two',
      user: 'abc-123',
      conversation_id: 'c',
      auto_generate_name: false,
      response_mode: 'blocking',
    },
  ]);
});

test('chat.streaming', async () => {
  const stream = clientOf(peer, CHAT).streamChatMessage({ query: 'how are you' });
  let answer = '';
  let last = '';
  for await (const event of stream) {
    if (event.event === 'message') answer += event.answer;
    last = event.event;
  }
  assert.deepEqual([answer, stream.text, last], [ANSWER, ANSWER, 'message_end']);
  const [first] = eventsIn(RECORDED);
  assert.deepEqual([stream.conversationId, stream.messageId], [first?.['conversation_id'], first?.['message_id']]);
  assert.equal(stream.run?.status, 'succeeded');
});

test('chat.stop', async () => {
  await fault.script();
  const client = clientOf(fault, CHAT);
  assert.equal((await client.stopChatMessage('t1')).result, 'success');
  assert.equal((await client.stopCompletion('t2', { user: 'u' })).result, 'success');
  assert.deepEqual(
    (await fault.requests()).map((request) => request.path),
    ['/v1/chat-messages/t1/stop', '/v1/completion-messages/t2/stop'],
  );
  assert.deepEqual(await bodies(), [{ user: 'abc-123' }, { user: 'u' }]);
});

test('chat.completion', async () => {
  const client = clientOf(fault, CHAT);
  await fault.script({ status: 200, body: { event: 'message', message_id: 'm', answer: 'written' } });
  assert.equal((await client.createCompletion({ inputs: { topic: 'x' } })).answer, 'written');
  const lines = [
    { event: 'message', message_id: 'm', answer: 'wri' },
    { event: 'message_replace', message_id: 'm', answer: 'Wri' },
    { event: 'message', message_id: 'm', answer: 'tten' },
    { event: 'message_end', message_id: 'm', metadata: {} },
    { event: 'tts_message', message_id: 'm', audio: 'AAAA' },
    { event: 'tts_message_end', message_id: 'm', audio: '' },
  ];
  await fault.script({
    status: 200,
    headers: SSE,
    body: lines.map((line) => `data: ${JSON.stringify(line)}\n\n`).join(''),
  });
  const stream = client.streamCompletion({ inputs: { topic: 'x' }, query: 'q' });
  assert.deepEqual(await all<unknown>(stream), lines);
  assert.equal(stream.text, 'Written');
  assert.equal(((await bodies())[0] as { query: string }).query, 'q');
});

test('chat.suggested', async () => {
  assert.deepEqual((await clientOf(peer, CHAT).getSuggestedQuestions('m1')).data, ['And then?', 'Why?']);
});

test('chat.feedback', async () => {
  await fault.script();
  const client = clientOf(fault, CHAT);
  assert.equal((await client.sendFeedback('m1', { rating: 'like', content: 'good' })).result, 'success');
  await client.sendFeedback('m2', { rating: null });
  assert.deepEqual(await bodies(), [
    { rating: 'like', content: 'good', user: 'abc-123' },
    { rating: null, user: 'abc-123' },
  ]);
  const messageIds = (await all(client.listFeedbacks({ limit: 1 }))).map((feedback) => feedback.message_id);
  assert.deepEqual(messageIds.slice(-2), ['m1', 'm2']);
});

test('chat.conversations-list-rename-delete', async () => {
  const client = clientOf(peer, TURN);
  const conversations = await all(client.listConversations({ limit: 1, sortBy: '-updated_at' }));
  assert.ok(conversations.length >= 1);
  const id = await conversation();
  assert.equal((await client.renameConversation(id, { name: 'other' })).name, 'other');
  assert.equal((await client.renameConversation(id, { autoGenerate: true })).name, 'made up');
  assert.equal(await client.deleteConversation('00000000-0000-4000-8000-000000000000'), undefined);
});

test('chat.messages', async () => {
  const pages = clientOf(peer, TURN).listMessages(await conversation(), { limit: 2 });
  const answers = (await all(pages.pages())).map((page) => page.data.map((message) => message.answer));
  assert.deepEqual(answers, [['count=2', 'count=3'], ['count=1']]);
  assert.equal((await all(pages)).length, 3);
});

test('chat.variables', async () => {
  const client = clientOf(peer, TURN);
  const id = await conversation();
  const [variable] = await all(client.listConversationVariables(id));
  assert.deepEqual([variable?.name, variable?.value], ['count', '3']);
  assert.equal((await client.updateConversationVariable(id, variable?.id ?? '', { value: 9 })).value, '9');
});

test('chat.cut-ends-with-the-answer', async () => {
  const client = clientOf(fault, CHAT, new Pauses().options);
  const recorded = eventsIn(RECORDED);
  for (let cut = 700; cut < RECORDED.length - 2; cut += 900) {
    await fault.script({ pass: true, cut });
    const stream = client.streamChatMessage({ query: 'how are you' });
    const events = await all(stream);
    const last = events.at(-1);
    assert.ok(last?.event === 'message_end' && last.synthesized, String(cut));
    assert.deepEqual([last.answer, stream.text], [ANSWER, ANSWER]);
    const sent = events.filter((event) => !('synthesized' in event));
    assert.deepEqual(sent, recorded.slice(0, sent.length));
    assert.equal(events.filter((event) => event.event === 'workflow_finished').length, 1);
  }
  // a failed chatflow
  await fault.script({ pass: true, cut: 3000 });
  const failed = await all(
    clientOf(fault, 'app-32_chat_fail', new Pauses().options).streamChatMessage({ query: 'hi' }),
  );
  assert.deepEqual(
    failed.slice(-2).map((event) => event.event),
    ['workflow_finished', 'error'],
  );
  // a chat without a workflow: its message is complete when it does not grow any more
  const pauses = new Pauses();
  const line = `data: ${JSON.stringify({ event: 'message', conversation_id: 'c', message_id: 'm', task_id: 't', answer: 'On' })}\n\n`;
  const stream = { status: 200, headers: SSE, body: line, cut: line.length };
  const history = ['One', 'One two', 'One two'].map((answer) => ({
    status: 200,
    body: { data: [{ id: 'm', answer }] },
  }));
  await fault.script(stream, { status: 200, body: { data: [] } }, ...history);
  const grown = await all(clientOf(fault, 'k', pauses.options).streamChatMessage({ query: 'hi' }));
  const end = grown.at(-1);
  assert.ok(end?.event === 'message_end' && end.answer === 'One two');
  assert.deepEqual(pauses.all, [1, 1.5, 2.25]);
  // of a completion there is no history
  const completion = line.replace('"conversation_id":"c",', '');
  await fault.script({ ...stream, body: completion, cut: completion.length });
  const error = await errorOf(all(clientOf(fault, 'k', pauses.options).streamCompletion()), StreamInterruptedError);
  assert.deepEqual([error.messageId, error.text], ['m', 'On']);
});

test('chat.audio', async () => {
  const client = clientOf(peer, CHAT);
  assert.equal((await client.audioToText(Buffer.from('ID3 sound'))).text, 'heard 9 bytes of file.mp3');
  assert.equal((await client.audioToText(Readable.from([Buffer.from('ID3')]))).text, 'heard 3 bytes of file.mp3');
  assert.equal(Buffer.from(await client.textToAudio({ text: 'hello' })).toString(), 'ID3hello');
});

test('rest.human-input-form', async () => {
  const form = await clientOf(peer, CHAT).getHumanInputForm('token');
  assert.deepEqual([form.form_content, form.user_actions[0]?.['id']], ['Is this right?', 'approve']);
  assert.equal(
    (await errorOf(clientOf(peer, CHAT).getHumanInputForm('gone'), Error)).message,
    'This form has expired.',
  );
});

test('rest.human-input-submit', async () => {
  await fault.script();
  await clientOf(fault, CHAT).submitHumanInputForm('token', { action: 'approve', inputs: { note: 'yes' } });
  assert.deepEqual(await bodies(), [{ inputs: { note: 'yes' }, action: 'approve', user: 'abc-123' }]);
  await fault.script({ reset: true });
  await errorOf(clientOf(fault, CHAT).submitHumanInputForm('token', { action: 'approve' }), Error);
  assert.equal((await fault.requests()).length, 1);
});

test('rest.human-input-files', async () => {
  await fault.script();
  const page = 'https://example.org/a.pdf';
  const inputs = { note: 'https://example.org/', pictures: Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), page };
  await clientOf(fault, CHAT).submitHumanInputForm('token', { action: 'approve', inputs });
  const requests = (await fault.requests()).map(({ method, path }) => `${method} ${path}`);
  const form = '/v1/form/human_input/token';
  assert.deepEqual(requests, [`GET ${form}`, 'POST /v1/files/upload', `POST ${form}`]);
  const sent = JSON.parse((await fault.requests())[2]?.body ?? '{}') as {
    inputs: { pictures: [Record<string, string>] };
  };
  const { upload_file_id, ...picture } = sent.inputs.pictures[0];
  assert.ok(upload_file_id);
  assert.deepEqual(
    { ...sent.inputs, pictures: [picture] },
    {
      note: 'https://example.org/',
      pictures: [{ type: 'image', transfer_method: 'local_file' }],
      page: { type: 'document', transfer_method: 'remote_url', url: page },
    },
  );
});

test('rest.health', async () => {
  const client = clientOf(real, real.keys['hello'] ?? '');
  assert.deepEqual(await client.getHealth(), { status: 'ok', healthy: true });
  assert.equal((await client.getReadiness()).healthy, true);
  await fault.script({ status: 503, body: { status: 'not ready' } });
  assert.deepEqual(await clientOf(fault, CHAT).getReadiness(), { status: 'not ready', healthy: false });
});

test('rest.timeouts-a-call', async () => {
  await fault.script({ hang: 1 });
  const began = performance.now();
  await errorOf(clientOf(fault, CHAT).getInfo({ timeout: 0.1 }), TimeoutError);
  await fault.script({ hang: 1 });
  await errorOf(clientOf(fault, CHAT, { timeout: 0.1, maxRetries: 0 }).getInfo(), TimeoutError);
  // the pauses between repetitions are part of it
  await fault.script({ status: 503, body: {} }, { status: 503, body: {} });
  await errorOf(clientOf(fault, CHAT).getInfo({ timeout: 0.3 }), TimeoutError);
  assert.ok(performance.now() - began < 1500);
});

/** The package `undici`'s own `fetch` can be used, too. */
export const undiciFetch = (fetch: typeof undici.fetch): Fetch => fetch;

/** undici's Agent as Node itself has it: the class `Agent` of the package `undici`. */
function agent(): new (options: object) => object {
  const global = Reflect.get(globalThis, Symbol.for('undici.globalDispatcher.1')) as object;
  return global.constructor as new (options: object) => object;
}

/** Calls through an HTTP proxy, with node:http alone. */
const through =
  (proxy: string) =>
  (url: string, init: FetchInit): Promise<Response> =>
    new Promise((resolve, reject) => {
      const { hostname, port } = new URL(proxy);
      const headers = { ...init.headers, Host: new URL(url).host };
      const asked = request(
        { hostname, port, path: url, method: init.method, headers, agent: new Agent() },
        (answer) => {
          resolve(new Response(Readable.toWeb(answer) as ReadableStream, { status: answer.statusCode ?? 0 }));
        },
      );
      asked.on('error', reject).end(init.body);
    });

test('rest.proxy-and-custom-transport', async () => {
  await fault.script({ status: 200, body: { name: 'through a proxy' } });
  const proxied = clientOf({ url: 'http://somewhere.invalid/v1' }, CHAT, { fetch: through(fault.url) });
  assert.equal((await proxied.getInfo()).name, 'through a proxy');
  assert.equal((await fault.requests())[0]?.headers['host'], 'somewhere.invalid');
  const Dispatcher = agent();
  const { hostname, port } = new URL(fault.url);
  const dispatcher = new Dispatcher({
    connect: (_: object, done: (error: Error | null, socket: object | null) => void) => {
      const socket = connect(Number(port), hostname, () => done(null, socket)).on('error', (error) =>
        done(error, null),
      );
    },
  });
  await fault.script({ status: 200, body: { name: 'through a dispatcher' } });
  const client = clientOf({ url: 'http://elsewhere.invalid' }, CHAT, { dispatcher, headers: { 'X-Team': 'a' } });
  assert.equal((await client.getInfo()).name, 'through a dispatcher');
  const [request] = await fault.requests();
  assert.deepEqual([request?.headers['host'], request?.headers['x-team']], ['elsewhere.invalid', 'a']);
});

test('a CA and a client certificate are passed with a dispatcher', async () => {
  const pem = (name: string) => readFileSync(join(process.env['HEADRACE_TEST_TLS'] ?? '', name));
  const server = createServer(
    {
      key: pem('server.pem'),
      cert: pem('server.pem'),
      ca: pem('ca.pem'),
      requestCert: true,
      rejectUnauthorized: false,
    },
    (asked, response) => {
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({ name: (asked.socket as TLSSocket).authorized ? 'known' : 'unknown' }));
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const secure = { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}` };
    const pauses = new Pauses();
    const error = await errorOf(clientOf(secure, CHAT, pauses.options).getInfo(), ConnectionError);
    assert.match(error.code ?? '', /CERT|SIGNATURE|SIGNED/);
    assert.deepEqual(pauses.all, [], 'what cannot be trusted is not asked again');
    const known = { ca: pem('ca.pem'), cert: pem('client.pem'), key: pem('client.pem') };
    const name = async (tls: object) =>
      (await clientOf(secure, CHAT, { dispatcher: new (agent())({ connect: tls }) }).getInfo()).name;
    assert.deepEqual([await name({ ca: known.ca }), await name(known)], ['unknown', 'known']);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test('rest.hundred-streams-at-once', async () => {
  const client = clientOf(real, real.keys['hello'] ?? '');
  const one = async (n: number) => (await client.streamWorkflow({ inputs: { text: `n${n}` } }).untilDone()).text;
  const texts = await Promise.all(Array.from({ length: 100 }, (_, n) => one(n)));
  assert.deepEqual(
    texts,
    Array.from({ length: 100 }, (_, n) => `You said: n${n}`),
  );
});
