/** The contract's `datasets`. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import {
  ConflictError,
  IndexingFailedError,
  LocalFile,
  NotFoundError,
  ServerError,
  UsageError,
  ValidationError,
  WaitTimeoutError,
  responseOf,
} from 'headrace-client';
import type { Datasets, ProcessRule } from 'headrace-client';
import { Pauses, all, clientOf, dify, errorOf, faults, headrace } from './servers.js';
import type { Faults, Step, TestServer } from './servers.js';

let own: TestServer;
let peer: TestServer;
let beforeOwn: Faults;
let beforePeer: Faults;
let fault: Faults;
before(async () => {
  [own, peer, fault] = await Promise.all([headrace(), dify(), faults()]);
  [beforeOwn, beforePeer] = await Promise.all([faults(own), faults(peer)]);
});

const [BASE, DOCUMENT, SEGMENT, CHUNK] = ['b-1', 'd-1', 's-1', 'c-1'];
const BUSY: Step = { status: 503, body: { code: 'busy', message: 'busy', status: 503 } };
const RULE: ProcessRule = {
  mode: 'hierarchical',
  rules: {
    pre_processing_rules: [{ id: 'remove_extra_spaces', enabled: true }],
    segmentation: { separator: '\n', max_tokens: 100 },
    parent_mode: 'paragraph',
    subchunk_segmentation: { separator: '.', max_tokens: 50 },
  },
};

function datasetsOf(server: { readonly url: string }, key = 'dataset-x', pauses = new Pauses()): Datasets {
  return clientOf(server, key, pauses.options).datasets;
}

const ofPeer = (server: { readonly url: string } = peer) => datasetsOf(server, peer.keys['knowledge']);

test('datasets.every-operation-is-there', async () => {
  await beforeOwn.script();
  const { datasets } = clientOf(beforeOwn, own.keys['knowledge'] ?? '');
  const waiting = { polling: { first: 0.02, longest: 0.2, timeout: 60 }, raiseOnFailure: true };
  const name = 'Manuals of Node';
  const created = await datasets.createDataset({ name, indexingTechnique: 'high_quality', description: 'All' });
  assert.equal(responseOf(created)?.status, 200);
  const base = created.id;
  await errorOf(datasets.createDataset({ name }), ConflictError);
  const written = await datasets.createDocumentByText(base, {
    name: 'pump',
    text: 'The pump starts. It needs oil.\nThe motor stops.',
    docForm: 'hierarchical_model',
    processRule: RULE,
  });
  const uploaded = await datasets.createDocumentByFile(base, Buffer.from('The valve is open.'), {
    filename: 'valve.md',
  });
  const document = written.document.id;
  const statuses = await datasets.waitUntilIndexed(base, written, waiting);
  assert.deepEqual(
    statuses.map(({ id, indexing_status }) => [id, indexing_status]),
    [[document, 'completed']],
  );
  await datasets.waitUntilIndexed(base, uploaded.batch, waiting);
  const ids = async (list: AsyncIterable<{ id: string }>) => (await all(list)).map(({ id }) => id);
  const names = async (list: AsyncIterable<{ name: string }>) => (await all(list)).map(({ name }) => name).sort();
  assert.deepEqual(await ids(datasets.listDatasets({ keyword: name, includeAll: true })), [base]);
  assert.deepEqual(await names(datasets.listDocuments(base)), ['pump', 'valve.md']);
  const segments = await all(datasets.listSegments(base, document, { status: ['completed'] }));
  assert.deepEqual(
    segments.map(({ content }) => content),
    ['The pump starts. It needs oil.', 'The motor stops.'],
  );
  const [added] = await datasets.createSegments(base, document, [{ content: 'A filter.', keywords: ['filter'] }]);
  assert.ok(added);
  const content = 'A sieve keeps sand away.';
  const changed = await datasets.updateSegment(base, document, added.id, { content, enabled: true });
  assert.deepEqual(
    [changed.content, (await datasets.getSegment(base, document, added.id)).status],
    [content, 'completed'],
  );
  const { id: chunkId } = await datasets.createChildChunk(base, document, added.id, 'A sieve');
  const chunk = await datasets.updateChildChunk(base, document, added.id, chunkId, 'Sand');
  const chunks = await all(datasets.listChildChunks(base, document, added.id));
  assert.ok(chunks.some((one) => one.id === chunk.id && one.content === 'Sand'));
  const { records } = await datasets.retrieve(base, { query: 'Sand' });
  assert.deepEqual([records[0]?.segment.content, records[0]?.segment.document?.name], [content, 'pump']);
  await datasets.deleteChildChunk(base, document, added.id, chunk.id);
  await datasets.deleteSegment(base, document, added.id);
  const { id: fieldId } = await datasets.createMetadataField(base, 'language');
  const field = await datasets.renameMetadataField(base, fieldId, 'lang');
  await datasets.updateDocumentMetadata(base, [
    { document_id: document, metadata_list: [{ id: field.id, name: 'lang', value: 'en' }], partial_update: true },
  ]);
  await datasets.switchBuiltInFields(base, true);
  const fields = await datasets.getMetadataFields(base);
  assert.deepEqual([fields.doc_metadata[0]?.count, fields.built_in_field_enabled], [1, true]);
  assert.ok((await datasets.getBuiltInFields(base)).some((one) => one.name === 'document_name'));
  const detail = await datasets.getDocument(base, document, { metadata: 'all' });
  assert.ok(Array.isArray(detail.doc_metadata));
  await datasets.deleteMetadataField(base, field.id);
  const tag = await datasets.renameTag((await datasets.createTag('tag of Node')).id, 'device of Node');
  await datasets.bindTags(base, [tag.id]);
  assert.deepEqual(
    (await datasets.getDatasetTags(base)).map(({ id }) => id),
    [tag.id],
  );
  assert.deepEqual(await ids(datasets.listDatasets({ tagIds: [tag.id, tag.id] })), [base]);
  await datasets.unbindTags(base, [tag.id]);
  assert.ok((await datasets.getTags()).some(({ id }) => id === tag.id));
  await datasets.deleteTag(tag.id);
  await datasets.updateDocumentStatus(base, [document], 'disable');
  assert.equal((await datasets.updateDocumentStatus(base, [document], 'enable')).result, 'success');
  assert.match(await datasets.getDocumentUrl(base, document), /^http/);
  assert.equal(Buffer.from(await datasets.downloadDocuments(base, [document])).toString('latin1', 0, 2), 'PK');
  const again = await datasets.updateDocumentByText(base, document, { name: 'pump 2', text: 'The pump stops.' });
  await datasets.waitUntilIndexed(base, again, waiting);
  const file = new LocalFile(Buffer.from('The valve is shut.'), { filename: 'valve 2.md' });
  await datasets.waitUntilIndexed(base, await datasets.updateDocumentByFile(base, uploaded.document.id, file), waiting);
  assert.deepEqual(await names(datasets.listDocuments(base, { keyword: '2' })), ['pump 2', 'valve 2.md']);
  assert.equal((await datasets.updateDataset(base, { description: 'Fewer' })).description, 'Fewer');
  assert.equal((await datasets.getDataset(base)).description, 'Fewer');
  assert.ok((await datasets.getModels()).some(({ models }) => models.some(({ model }) => model === 'demo')));
  await pipelines(datasets, base);
  await datasets.deleteDocument(base, document);
  await datasets.deleteDataset(base);
  await errorOf(datasets.getDataset(base), NotFoundError);
  const operations = new Set((await beforeOwn.requests()).map(({ method, path }) => operationOf(method, path)));
  assert.equal(operations.size, 45, [...operations].sort().join('\n'));
});

async function pipelines(datasets: Datasets, base: string): Promise<void> {
  const file = await datasets.uploadPipelineFile(Buffer.from('Steam.\nWater.'), { filename: 'steam.md' });
  const [plugin] = await datasets.getDatasourcePlugins(base);
  const startNodeId = plugin?.node_id ?? '';
  const run = await datasets.runPipeline(base, { startNodeId, datasources: [{ reference: file.id }] });
  assert.equal(run.documents?.[0]?.name, 'steam.md');
  await datasets.waitUntilIndexed(base, run, { polling: { first: 0.02, timeout: 60 }, raiseOnFailure: true });
  const stream = datasets.streamDatasourceNode(base, startNodeId, { datasourceType: 'local_file' });
  assert.match((await errorOf(stream.untilDone(), ValidationError)).message, /nothing to run/);
}

/** A request's operation: its path without ids. */
function operationOf(method: string, path: string): string {
  const words = path.split('/').map((word) => (/^[0-9a-f-]{20,}$|^\d{20}$|^local_file$/.test(word) ? '{id}' : word));
  return `${method} ${words.join('/').replace(/(status|built-in|model-types)\/[\w-]+$/, '$1/{word}')}`;
}

test('datasets.responses-of-dify', async () => {
  const datasets = ofPeer();
  const created = await datasets.createDataset({ name: 'Manuals' });
  assert.deepEqual([created.indexing_technique, created.embedding_available], [null, null]);
  const [base] = await all(datasets.listDatasets());
  assert.equal(base?.author_name, 'Peer');
  assert.equal((await datasets.getDataset(BASE)).tags?.[0]?.name, 'product');
  assert.deepEqual((await datasets.updateDataset(BASE, { partialMemberList: [] })).partial_member_list, []);
  const written = await datasets.createDocumentByText(BASE, { name: 'pump', text: 'The pump starts.' });
  assert.deepEqual([written.document.tokens, written.batch], [null, '20261121020514783921']);
  for (const document of [
    await datasets.createDocumentByFile(BASE, Buffer.from('x')),
    await datasets.updateDocumentByText(BASE, DOCUMENT, { text: 'x', name: 'n' }),
    await datasets.updateDocumentByFile(BASE, DOCUMENT, Buffer.from('x')),
  ])
    assert.deepEqual(document, written);
  assert.equal((await datasets.waitUntilIndexed(BASE, written))[0]?.completed_at, 1795226716.5);
  assert.equal((await all(datasets.listDocuments(BASE, { status: 'available' })))[0]?.name, 'pump.md');
  assert.equal((await datasets.getDocument(BASE, DOCUMENT)).segment_count, 4);
  assert.equal(await datasets.getDocumentUrl(BASE, DOCUMENT), 'https://files.example.com/x?sign=y');
  assert.equal(Buffer.from(await datasets.downloadDocuments(BASE, [DOCUMENT])).toString(), 'PK');
  assert.equal((await datasets.updateDocumentStatus(BASE, [DOCUMENT], 'archive')).result, 'success');
  const [segment] = await datasets.createSegments(BASE, DOCUMENT, [{ content: 'x' }]);
  assert.equal(segment?.keywords, null);
  assert.deepEqual(await all(datasets.listSegments(BASE, DOCUMENT)), [segment]);
  assert.deepEqual(await datasets.getSegment(BASE, DOCUMENT, SEGMENT), segment);
  assert.deepEqual(await datasets.updateSegment(BASE, DOCUMENT, SEGMENT, { content: 'x' }), segment);
  const chunk = await datasets.createChildChunk(BASE, DOCUMENT, SEGMENT, 'x');
  assert.deepEqual(await all(datasets.listChildChunks(BASE, DOCUMENT, SEGMENT)), [chunk]);
  assert.deepEqual(await datasets.updateChildChunk(BASE, DOCUMENT, SEGMENT, CHUNK, 'x'), chunk);
  const [record] = (await datasets.retrieve(BASE, { query: 'pump' })).records;
  assert.deepEqual([record?.score, record?.child_chunks?.[0]?.score], [0.71, 0.83]);
  const field = await datasets.createMetadataField(BASE, 'language', 'string');
  assert.deepEqual(await datasets.renameMetadataField(BASE, field.id, 'language'), field);
  assert.equal((await datasets.getMetadataFields(BASE)).doc_metadata[0]?.count, 2);
  assert.deepEqual(
    (await datasets.getBuiltInFields(BASE)).map(({ type }) => type),
    ['string', 'time'],
  );
  assert.equal((await datasets.switchBuiltInFields(BASE, false)).result, 'success');
  assert.equal((await datasets.updateDocumentMetadata(BASE, [])).result, 'success');
  assert.equal((await datasets.createTag('product')).binding_count, 0);
  assert.equal((await datasets.getTags())[0]?.binding_count, '2');
  assert.equal((await datasets.renameTag('t', 'product')).name, 'product');
  assert.equal((await datasets.getDatasetTags(BASE))[0]?.name, 'product');
  assert.equal((await datasets.getModels('rerank'))[0]?.models[0]?.model, 'text-embedding-3-small');
  assert.equal((await datasets.uploadPipelineFile(Buffer.from('x'))).created_at, '2026-11-21T02:05:14Z');
  const [plugin] = await datasets.getDatasourcePlugins(BASE);
  assert.equal(plugin?.datasource_type, 'local_file');
  const request = { datasourceType: 'online_document', inputs: { a: 1 }, credentialId: 'c' } as const;
  const events = await all(datasets.streamDatasourceNode(BASE, plugin?.node_id ?? '', request));
  assert.deepEqual(
    events.map(({ event }) => event),
    ['datasource_processing', 'datasource_completed'],
  );
  const run = await datasets.runPipeline(BASE, { startNodeId: '1', datasources: [{ reference: 'f' }] });
  assert.equal(run.documents?.[0]?.indexing_status, 'waiting');
  assert.equal((await datasets.waitUntilIndexed(BASE, run)).length, 1);
  for (const nothing of [
    () => datasets.deleteDataset(BASE),
    () => datasets.deleteDocument(BASE, DOCUMENT),
    () => datasets.deleteSegment(BASE, DOCUMENT, SEGMENT),
    () => datasets.deleteChildChunk(BASE, DOCUMENT, SEGMENT, CHUNK),
    () => datasets.deleteMetadataField(BASE, 'f'),
    () => datasets.deleteTag('t'),
    () => datasets.bindTags(BASE, ['t']),
    () => datasets.unbindTags(BASE, ['t']),
  ])
    assert.equal(await nothing(), undefined);
});

const bodies = async (server: Faults) => (await server.requests()).map(({ body }) => JSON.parse(body) as unknown);

test('datasets.retrieve', async () => {
  await beforePeer.script(BUSY);
  const model = { search_method: 'keyword_search', reranking_enable: false, top_k: 2, score_threshold_enabled: false };
  const retrievalModel = model as typeof model & { search_method: 'keyword_search' };
  const result = await ofPeer(beforePeer).retrieve('d/1', { query: 'what', retrievalModel });
  assert.equal(result.records[0]?.segment.document?.name, 'pump.md');
  const body = { query: 'what', retrieval_model: model };
  assert.deepEqual(await bodies(beforePeer), [body, body]);
});

test('datasets.lists-page-by-page', async () => {
  const page = (number: number) => ({
    ...{ data: [{ id: String(number), name: 'a' }], has_more: number < 3, limit: 1, total: 3, page: number },
  });
  await fault.script(...[1, 2, 3].map((number) => ({ status: 200, body: page(number) })));
  const ids = (await all(datasetsOf(fault).listDatasets({ limit: 1, tagIds: ['a', 'b'] }))).map(({ id }) => id);
  assert.deepEqual(ids, ['1', '2', '3']);
  const pages = (await fault.requests()).map(({ query }) => query['page']);
  assert.deepEqual(pages, ['1', '2', '3']);
  // child chunks have no has_more
  const chunks = { data: [{ id: '1', content: 'a' }], total: 2, total_pages: 2, limit: 1 };
  await fault.script(...[1, 2].map((number) => ({ status: 200, body: { ...chunks, page: number } })));
  assert.equal((await all(datasetsOf(fault).listChildChunks(BASE, DOCUMENT, SEGMENT, { limit: 1 }))).length, 2);
  assert.equal((await fault.requests()).length, 2);
});

function statuses(...states: string[]): Step {
  const data = states.map((state, number) => ({
    ...{ id: String(number), indexing_status: state, error: state === 'error' ? 'model is not configured' : null },
  }));
  return { status: 200, body: { data } };
}

test('datasets.wait-until-indexed', async () => {
  const pauses = new Pauses();
  const datasets = datasetsOf(fault, 'dataset-x', pauses);
  const states = ['waiting', 'paused', '', 'indexing', 'completed'];
  await fault.script(...states.map((state) => (state ? statuses(state) : BUSY)));
  assert.equal((await datasets.waitUntilIndexed(BASE, { batch: 'b' }))[0]?.indexing_status, 'completed');
  assert.deepEqual(pauses.all, [1, 1.5, 2.25, 1, 3.375]);
  await errorOf(datasets.waitUntilIndexed(BASE, ''), UsageError);
});

test('datasets.documents-in-error', async () => {
  const datasets = datasetsOf(fault);
  const ended = statuses('completed', 'error');
  await fault.script(statuses('indexing', 'error'), ended, ended);
  assert.equal((await datasets.waitUntilIndexed(BASE, 'b')).length, 2);
  const error = await errorOf(datasets.waitUntilIndexed(BASE, 'b', { raiseOnFailure: true }), IndexingFailedError);
  assert.match(error.message, /1 of 2 documents .* 1: model is not configured/);
  assert.equal(error.documents[1]?.indexing_status, 'error');
});

test('datasets.wait-ends-with-what-is-known', async () => {
  const pauses = new Pauses();
  await fault.script(...Array.from({ length: 10 }, () => statuses('completed', 'indexing')));
  const waiting = datasetsOf(fault, 'dataset-x', pauses).waitUntilIndexed(BASE, 'b', { polling: { timeout: 10 } });
  const error = await errorOf(waiting, WaitTimeoutError);
  assert.match(error.message, /after 10 seconds; 1 of 2 documents have ended/);
  assert.equal(error.documents[1]?.indexing_status, 'indexing');
  assert.equal(pauses.now, 10);
});

test('datasets.files-and-settings', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'headrace-datasets-'));
  const path = join(folder, 'pump.md');
  writeFileSync(path, '# Pump');
  try {
    for (const [file, name] of [
      [path, 'pump.md'],
      [Buffer.from('# Pump'), 'file.txt'],
      [new LocalFile(Buffer.from('# Pump'), { filename: 'a.md' }), 'a.md'],
      [new Blob(['# Pump']).stream(), 'file.txt'],
    ] as const) {
      await beforePeer.script();
      const settings = { indexingTechnique: 'economy', processRule: { mode: 'automatic' } } as const;
      await ofPeer(beforePeer).createDocumentByFile(BASE, file, settings);
      const [request] = await beforePeer.requests();
      assert.ok(request);
      assert.ok(request.body.includes(`name="file"; filename="${name}"`), request.body);
      const data = /name="data"\r\n\r\n(.*)\r\n/.exec(request.body)?.[1] ?? '';
      assert.deepEqual(JSON.parse(data), { indexing_technique: 'economy', process_rule: { mode: 'automatic' } });
    }
    await errorOf(ofPeer().createDocumentByFile(BASE, join(folder, 'none.md')), UsageError);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('datasets.creating-is-not-repeated', async () => {
  const datasets = ofPeer(beforePeer);
  for (const call of [
    () => datasets.createDataset({ name: 'x' }),
    () => datasets.createDocumentByText(BASE, { name: 'x', text: 'x' }),
    () => datasets.createDocumentByFile(BASE, Buffer.from('x')),
    () => datasets.updateDocumentByText(BASE, DOCUMENT, { name: 'x', text: 'x' }),
    () => datasets.createSegments(BASE, DOCUMENT, []),
    () => datasets.createChildChunk(BASE, DOCUMENT, SEGMENT, 'x'),
    () => datasets.createMetadataField(BASE, 'x'),
    () => datasets.createTag('x'),
    () => datasets.runPipeline(BASE, { startNodeId: 'n', datasources: [] }),
  ]) {
    await beforePeer.script(BUSY);
    await errorOf(call(), ServerError);
    assert.equal((await beforePeer.requests()).length, 1);
  }
});

test('datasets.reading-and-changing-is-repeated', async () => {
  const datasets = ofPeer(beforePeer);
  for (const call of [
    () => datasets.getDataset(BASE),
    () => datasets.updateDataset(BASE, { description: 'x' }),
    () => datasets.updateSegment(BASE, DOCUMENT, SEGMENT, { content: 'x' }),
    () => datasets.updateDocumentMetadata(BASE, []),
    () => datasets.bindTags(BASE, ['t']),
    () => datasets.deleteDocument(BASE, DOCUMENT),
  ]) {
    await beforePeer.script(BUSY, { reset: true });
    await call();
    assert.equal((await beforePeer.requests()).length, 3);
  }
});

test('datasets.deleted-by-an-attempt-is-deleted', async () => {
  const gone: Step = { status: 404, body: { code: 'not_found', message: 'Document not found.', status: 404 } };
  const datasets = datasetsOf(fault);
  for (const lost of [{ reset: true } as Step, BUSY]) {
    await fault.script(lost, gone);
    await datasets.deleteDocument(BASE, DOCUMENT);
  }
  await fault.script(gone);
  await errorOf(datasets.deleteDocument(BASE, DOCUMENT), NotFoundError);
  await fault.script({ status: 429, body: {} }, gone);
  await errorOf(datasets.deleteDocument(BASE, DOCUMENT), NotFoundError);
});

test('datasets.responses-that-are-not-valid', async () => {
  const datasets = datasetsOf(fault);
  for (const [body, call] of [
    [{}, () => datasets.getTags()],
    [[1], () => datasets.getTags()],
    [[], () => datasets.getDataset(BASE)],
    [{ data: 1 }, () => datasets.getSegment(BASE, DOCUMENT, SEGMENT)],
    [{ data: [1] }, () => datasets.getIndexingStatus(BASE, 'b')],
  ] as const) {
    await fault.script({ status: 200, body });
    await errorOf(call(), ServerError);
  }
  for (const id of ['', '.', '..']) await errorOf(datasets.getDataset(id), UsageError);
});
