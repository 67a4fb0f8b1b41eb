import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { before, test } from 'node:test';
import {
  AuthenticationError,
  ConflictError,
  ConnectionError,
  HeadraceError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
  RunFailedError,
  ServerError,
  TimeoutError,
  ValidationError,
} from 'headrace-client';
import { Pauses, clientOf, dify, errorOf, faults } from './servers.js';
import type { Faults, TestServer } from './servers.js';

const KEY = 'app-02_template';
let peer: TestServer;
let fault: Faults;
before(async () => {
  peer = await dify();
  fault = await faults(peer);
});

const unavailable = { status: 503, body: { code: 'service_unavailable', message: 'later', status: 503 } };

/** A port that nothing listens on. */
async function nowhere(): Promise<{ url: string }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return { url: `http://127.0.0.1:${port}` };
}

test('retry.get-5xx-three-times', async () => {
  const pauses = new Pauses();
  await fault.script(unavailable, unavailable, unavailable);
  assert.equal((await clientOf(fault, KEY, pauses.options).getInfo()).name, '02_template');
  assert.deepEqual(pauses.all, [1, 2, 4]);
  const chance = new Pauses();
  await fault.script(unavailable);
  await clientOf(fault, KEY, { ...chance.options, retry: {} }).getInfo();
  assert.ok((chance.all[0] ?? 0) >= 1 && (chance.all[0] ?? 9) <= 1.25, String(chance.all));
});

test('retry.gives-up-after-three', async () => {
  await fault.script(unavailable, unavailable, unavailable, unavailable);
  const error = await errorOf(clientOf(fault, KEY, new Pauses().options).getInfo(), ServerError);
  assert.deepEqual([error.status, error.code, error.message], [503, 'service_unavailable', 'later']);
  assert.equal((await fault.requests()).length, 4);
});

test('retry.never-another-4xx', async () => {
  for (const status of [400, 401, 403, 404, 409, 422]) {
    await fault.script({ status, body: { code: 'x', message: 'y', status } });
    await errorOf(clientOf(fault, KEY, new Pauses().options).getInfo(), HeadraceError);
    assert.equal((await fault.requests()).length, 1, String(status));
  }
});

test('retry.429-waits-retry-after', async () => {
  const limited = (after: string) => ({
    status: 429,
    headers: { 'Retry-After': after },
    body: { code: 'too_many_requests' },
  });
  const pauses = new Pauses();
  const client = clientOf(fault, KEY, pauses.options);
  const date = new Date(Date.now() + 20_000).toUTCString();
  await fault.script(limited('7'), limited(date));
  await client.getInfo();
  assert.equal(pauses.all[0], 7);
  assert.ok((pauses.all[1] ?? 0) > 15 && (pauses.all[1] ?? 0) <= 20, String(pauses.all));
  await fault.script(limited('61'));
  assert.equal((await errorOf(client.getInfo(), RateLimitError)).retryAfter, 61);
  const patient = clientOf(fault, KEY, { ...pauses.options, retry: { jitter: 0, maxRetryAfter: 90 } });
  await fault.script(limited('61'));
  await patient.getInfo();
  assert.equal(pauses.all.at(-1), 61);
});

test('retry.connection-errors', async () => {
  const pauses = new Pauses();
  await fault.script({ reset: true }, { reset: true });
  assert.equal((await clientOf(fault, KEY, pauses.options).getInfo()).name, '02_template');
  assert.deepEqual(pauses.all, [1, 2]);
});

test('retry.run-is-not-repeated', async () => {
  for (const step of [{ reset: true as const }, { status: 502, body: 'bad gateway' }]) {
    await fault.script(step);
    await errorOf(clientOf(fault, KEY, new Pauses().options).runWorkflow({ inputs: { query: 'hi' } }), HeadraceError);
    assert.equal((await fault.requests()).length, 1);
  }
});

test('retry.run-that-did-not-arrive-is-repeated', async () => {
  const pauses = new Pauses();
  await fault.script({ status: 429, body: {} });
  const run = await clientOf(fault, KEY, pauses.options).runWorkflow({ inputs: { query: 'hi' } });
  assert.equal(run.status, 'succeeded');
  await errorOf(clientOf(await nowhere(), KEY, pauses.options).runWorkflow({ inputs: {} }), ConnectionError);
  assert.deepEqual(pauses.all, [1, 1, 2, 4]);
});

test('retry.options', async () => {
  await fault.script(unavailable);
  await errorOf(clientOf(fault, KEY, { maxRetries: 0 }).getInfo(), ServerError);
  assert.equal((await fault.requests()).length, 1);
  const pauses = new Pauses();
  await fault.script(unavailable, unavailable);
  await clientOf(fault, KEY, { ...pauses.options, retry: { delay: 0.5, factor: 3, jitter: 0 } }).getInfo();
  assert.deepEqual(pauses.all, [0.5, 1.5]);
  for (const wrong of [-1, Number.NaN]) assert.throws(() => clientOf(fault, KEY, { maxRetries: wrong }), HeadraceError);
});

async function refused<E extends HeadraceError>(
  status: number,
  kind: abstract new (...args: never[]) => E,
  headers: Record<string, string> = {},
): Promise<E> {
  await fault.script({ status, headers, body: { code: 'the_code', message: 'in words', status } });
  const error = await errorOf(clientOf(fault, KEY, { maxRetries: 0 }).getInfo(), kind);
  assert.deepEqual([error.status, error.code, error.message, error.name], [status, 'the_code', 'in words', kind.name]);
  return error;
}

test('errors.401-is-authentication', async () => {
  await refused(401, AuthenticationError);
  const error = await errorOf(clientOf(peer, 'wrong').getInfo(), AuthenticationError);
  assert.equal(error.message, 'Access token is invalid');
});
test('errors.403-is-permission', async () => void (await refused(403, PermissionDeniedError)));
test('errors.404-is-not-found', async () => void (await refused(404, NotFoundError)));
test('errors.400-is-validation', async () => {
  for (const status of [400, 413, 415, 422]) await refused(status, ValidationError);
});
test('errors.409-is-conflict', async () => void (await refused(409, ConflictError)));
test('errors.429-is-rate-limit', async () => {
  assert.equal((await refused(429, RateLimitError, { 'Retry-After': '3' })).retryAfter, 3);
  await fault.script({
    status: 400,
    body: { code: 'invalid_param', message: 'Too many requests. Please try again later.' },
  });
  await errorOf(clientOf(fault, KEY, { maxRetries: 0 }).getInfo(), RateLimitError);
});
test('errors.500-is-server', async () => {
  for (const status of [500, 502, 503, 504]) await refused(status, ServerError);
});

test('errors.refused-is-connection', async () => {
  const error = await errorOf(clientOf(await nowhere(), KEY, { maxRetries: 0 }).getInfo(), ConnectionError);
  assert.deepEqual([error.code, error.status], ['ECONNREFUSED', null]);
  assert.ok(!(error instanceof TimeoutError));
});

test('errors.silence-is-timeout', async () => {
  await fault.script({ hang: 30 });
  const began = performance.now();
  const error = await errorOf(clientOf(fault, KEY).getInfo({ timeout: 0.2 }), TimeoutError);
  assert.ok(error instanceof ConnectionError);
  assert.ok(performance.now() - began < 20_000);
});

test('errors.html-has-a-message', async () => {
  const page =
    '<!doctype html><html><head><title>x</title><style>a{}</style></head><body><h1>Bad Gateway</h1> nginx</body></html>';
  await fault.script({ status: 502, headers: { 'Content-Type': 'text/html' }, body: page }, { status: 500, body: '' });
  const client = clientOf(fault, KEY, { maxRetries: 0 });
  const error = await errorOf(client.getInfo(), ServerError);
  assert.deepEqual([error.status, error.message], [502, 'HTTP 502: Bad Gateway nginx']);
  assert.equal((await errorOf(client.getInfo(), ServerError)).message, 'HTTP 500');
});

test('errors.not-json-is-server', async () => {
  for (const body of ['<html>a page</html>', '', '[1]', 'null', '"text"']) {
    await fault.script({ status: 200, body });
    const error = await errorOf(clientOf(fault, KEY).getInfo(), ServerError);
    assert.deepEqual([error.status, error.code], [200, 'invalid_response'], body);
  }
});

test('errors.request-id', async () => {
  assert.equal((await refused(400, ValidationError, { 'X-Request-Id': 'r-1' })).requestId, 'r-1');
  assert.equal((await refused(400, ValidationError, { 'X-Trace-Id': 't-1' })).requestId, 't-1');
  assert.equal((await refused(400, ValidationError)).requestId, null);
});

test('errors.chat-run-failed', async () => {
  const error = await errorOf(clientOf(peer, 'app-32_chat_fail').sendChatMessage({ query: 'hi' }), RunFailedError);
  assert.equal(error.status, 400);
  assert.match(error.message, /^Run failed: /);
});

test('a redirect is an error, not followed', async () => {
  await fault.script({ status: 301, headers: { Location: 'https://other.example/v1/info' }, body: '' });
  const error = await errorOf(clientOf(fault, KEY).getInfo(), HeadraceError);
  assert.match(error.message, /redirects to https:\/\/other\.example/);
  assert.equal((await fault.requests()).length, 1);
});

test('a signal ends a call, and the pause before its repetition', async () => {
  await fault.script({ hang: 5 });
  const reason = new Error('enough');
  const ended = new AbortController();
  const asked = clientOf(fault, KEY).getInfo({ signal: ended.signal });
  setTimeout(() => ended.abort(reason), 50);
  assert.equal(await errorOf(asked, Error), reason);
  await fault.script(unavailable);
  const pausing = new AbortController();
  const waiting = clientOf(fault, KEY).getInfo({ signal: pausing.signal });
  setTimeout(() => pausing.abort(), 50);
  assert.equal((await errorOf(waiting, DOMException)).name, 'AbortError');
  await fault.script();
  await errorOf(clientOf(fault, KEY).getInfo({ signal: AbortSignal.abort(reason) }), Error);
  assert.equal((await fault.requests()).length, 0);
});
