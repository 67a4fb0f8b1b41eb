import assert from 'node:assert/strict';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { after, before, test } from 'node:test';
import { HeadraceError, LocalFile } from 'headrace-client';
import { all, clientOf, dify, errorOf, faults, headrace } from './servers.js';
import type { Faults, TestServer } from './servers.js';

const folder = mkdtempSync(join(tmpdir(), 'headrace-client-files-'));
const path = join(folder, 'note.txt');
writeFileSync(path, 'what was noted');
after(() => rmSync(folder, { recursive: true }));

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);
const KEY = 'app-18_inputs_all'; // its form: text, para, sel, num, chk, obj, file, files
let real: TestServer;
let fault: Faults;
let toReal: Faults;
before(async () => {
  const peers = dify();
  real = await headrace();
  [fault, toReal] = await Promise.all([faults(await peers), faults(real)]);
});

/** What a run was asked for with these inputs. */
async function sent(inputs: Record<string, unknown>, files?: never[]): Promise<Record<string, unknown>> {
  await fault.script();
  await clientOf(fault, KEY).runWorkflow({ inputs, files });
  const run = (await fault.requests()).find((request) => request.path === '/v1/workflows/run');
  return JSON.parse(run?.body ?? '{}') as Record<string, unknown>;
}

const local = (type: string) => ({ type, transfer_method: 'local_file' });

test('files.path-bytes-and-file-object-are-uploaded', async () => {
  const files = {
    path: new LocalFile(path),
    url: pathToFileURL(path),
    bytes: Buffer.from('what was noted'),
    blob: new Blob(['what was noted'], { type: 'text/plain' }),
    stream: createReadStream(path),
    web: new Blob(['what was noted']).stream(),
  };
  for (const [form, file] of Object.entries(files)) {
    const { inputs } = (await sent({ text: 't', file })) as { inputs: { file: Record<string, string> } };
    const { upload_file_id, ...rest } = inputs.file;
    assert.deepEqual(rest, local('document'), form);
    assert.match(upload_file_id ?? '', /^[0-9a-f-]{36}$/, form);
    const upload = (await fault.requests()).find((request) => request.path === '/v1/files/upload');
    assert.match(upload?.body ?? '', /what was noted/, form);
    assert.match(upload?.body ?? '', form === 'path' ? /filename="note.txt"/ : /filename="(note|file).txt"/, form);
    assert.match(upload?.body ?? '', /Content-Type: text\/plain/, form);
  }
  // the real server accepts them in each form
  const client = clientOf(real, real.keys['files'] ?? '');
  const run = await client.runWorkflow({ inputs: { file: PNG, files: [new LocalFile(path), PNG] } });
  assert.equal(run.status, 'succeeded');
  const outputs = run.outputs as { file: { type: string; size: number }; files: { filename: string }[] };
  assert.deepEqual([outputs.file.type, outputs.file.size], ['image', PNG.length]);
  assert.deepEqual(
    outputs.files.map((file) => file.filename),
    ['note.txt', 'file.png'],
  );
  const uploaded = await client.uploadFile(PNG, { filename: 'dot.png' });
  assert.deepEqual([uploaded.name, uploaded.mime_type], ['dot.png', 'image/png']);
  assert.deepEqual(Buffer.from(await client.downloadFile(uploaded.id)), PNG);
  const again = await client.runWorkflow({ inputs: { file: uploaded } });
  assert.equal((again.outputs as typeof outputs).file.size, PNG.length);
  const missing = client.runWorkflow({ inputs: { file: new LocalFile(join(folder, 'nothing.txt')) } });
  assert.match((await errorOf(missing, HeadraceError)).message, /nothing\.txt cannot be read/);
});

test('files.url-is-passed-on', async () => {
  const url = 'https://example.com/a/photo.JPG?size=1';
  for (const value of [url, new URL(url)]) {
    const { inputs } = (await sent({ text: 't', file: value })) as { inputs: { file: unknown } };
    assert.deepEqual(inputs.file, { type: 'image', transfer_method: 'remote_url', url });
  }
  const body = await sent({}, [url, path] as never[]);
  const [first, second] = body['files'] as Record<string, unknown>[];
  assert.deepEqual(first, { type: 'image', transfer_method: 'remote_url', url });
  assert.equal(second?.['transfer_method'], 'local_file');
  const mapping = { type: 'document', transfer_method: 'local_file', upload_file_id: 'x' };
  assert.deepEqual((await sent({}, [mapping] as never[]))['files'], [mapping]);
});

test('files.one-or-many', async () => {
  const { inputs } = (await sent({ text: 't', file: [PNG], files: PNG })) as { inputs: Record<string, unknown> };
  assert.ok(!Array.isArray(inputs['file']));
  assert.ok(Array.isArray(inputs['files']) && inputs['files'].length === 1);
  const both = (await sent({ files: [PNG, new LocalFile(path)] })) as { inputs: { files: { type: string }[] } };
  assert.deepEqual(
    both.inputs.files.map((file) => file.type),
    ['image', 'document'],
  );
});

test('files.type-is-by-name', async () => {
  const types = { 'a.PNG': 'image', 'a.pdf': 'document', 'a.mp3': 'audio', 'a.mov': 'video', 'a.docx': 'document' };
  for (const [filename, type] of Object.entries(types)) {
    const { files } = (await sent({}, [new LocalFile(Buffer.from('x'), { filename })] as never[])) as {
      files: { type: string }[];
    };
    assert.equal(files[0]?.type, type, filename);
  }
  const stated = await sent({}, [new LocalFile(PNG, { type: 'custom' })] as never[]);
  assert.equal((stated['files'] as { type: string }[])[0]?.type, 'custom');
});

test('files.parameters-requested-once', async () => {
  await fault.script();
  const client = clientOf(fault, KEY);
  await Promise.all(
    [1, 2, 3].map(() => client.runWorkflow({ inputs: { text: 't', file: 'https://example.com/x.png' } })),
  );
  assert.equal((await fault.requests()).filter((request) => request.path === '/v1/parameters').length, 1);
  await fault.script();
  await clientOf(fault, KEY).runWorkflow({ inputs: { text: 'no file', num: 1, obj: { a: [1] } } });
  assert.equal((await fault.requests()).length, 1);
});

test('files.text-stays-text', async () => {
  const url = 'https://example.com/x.png';
  const { inputs } = (await sent({ text: url, para: path })) as { inputs: unknown };
  assert.deepEqual(inputs, { text: url, para: path });
});

test('files.uploaded-as-the-same-user', async () => {
  await toReal.script();
  const client = clientOf(toReal, real.keys['files'] ?? '', { user: 'usually' });
  assert.equal((await client.runWorkflow({ inputs: { file: PNG }, user: 'somebody' })).status, 'succeeded');
  const requests = await toReal.requests();
  const upload = requests.find((request) => request.path === '/v1/files/upload');
  assert.match(upload?.body ?? '', /name="user"\r\n\r\nsomebody\r\n/);
  assert.match(requests.at(-1)?.body ?? '', /"user":"somebody"/);
});

test('a file may have any name', async () => {
  const client = clientOf(real, real.keys['files'] ?? '');
  for (const filename of ['產品 圖.png', 'a"b.png', "it's 50% & more.png"]) {
    const uploaded = await client.uploadFile(PNG, { filename });
    assert.equal(uploaded.name.replaceAll('%22', '"'), filename);
  }
  await fault.script();
  await clientOf(fault, KEY).uploadFile(PNG, { filename: 'a\r\nX-Evil: 1\r\n\r\n.png' });
  assert.ok(!(await fault.requests())[0]?.body.includes('\nX-Evil'));
});

test('an upload is sent again whole after a broken connection', async () => {
  await fault.script({ status: 503, body: {} });
  const client = clientOf(fault, KEY, { sleep: async () => {} });
  await client.uploadFile(PNG);
  const [first, second] = (
    await all(
      (async function* () {
        yield* await fault.requests();
      })(),
    )
  ).map((request) => request.body.length);
  assert.ok(first && second && Math.abs(first - second) < 10);
});
