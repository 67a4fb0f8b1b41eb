import { datasetPath, splitRequest } from './dataset-calls.js';
import type { Document, DocumentDetail, IndexedDocument, IndexingStatus } from './dataset-models.js';
import type {
  BatchRef,
  DocumentAction,
  DocumentFilter,
  FileDocument,
  IndexingWait,
  TextChanges,
  TextDocument,
} from './dataset-requests.js';
import { IndexingFailedError, TimeoutError, UsageError, WaitTimeoutError, formatSeconds } from './errors.js';
import type { FileContent, LocalFile } from './files.js';
import type { Done, Values } from './models.js';
import type { CallOptions, Plan } from './options.js';
import type { Pages } from './pages.js';
import { Segments } from './segments.js';

const GRACE = 5; // seconds that the last request of a wait may take

/** Calls for the documents of knowledge bases. */
export class Documents extends Segments {
  // --------------------------------------------------------------------------------------------------------- create

  /** Creates a document, which is indexed after the response: see `waitUntilIndexed`. */
  async createDocumentByText(datasetId: string, document: TextDocument): Promise<IndexedDocument> {
    const { options, fields } = splitRequest(document);
    return this.call('POST', datasetPath(datasetId, 'document', 'create-by-text'), options, fields, 'unsent');
  }

  /** Creates a document of a file: a path, bytes, a Blob, a stream, a `file:` URL or a `LocalFile`. */
  async createDocumentByFile(
    datasetId: string,
    file: string | LocalFile | URL | FileContent,
    document: FileDocument = {},
  ): Promise<IndexedDocument> {
    return this.#sendFile(datasetPath(datasetId, 'document', 'create-by-file'), file, document);
  }

  /** Indexes a document again: with another name, text or settings. */
  async updateDocumentByText(datasetId: string, documentId: string, changes: TextChanges): Promise<IndexedDocument> {
    const { options, fields } = splitRequest(changes);
    const path = datasetPath(datasetId, 'documents', documentId, 'update-by-text');
    return this.call('POST', path, options, fields, 'unsent');
  }

  /** Replaces the content of a document by a file, and indexes it again. */
  async updateDocumentByFile(
    datasetId: string,
    documentId: string,
    file: string | LocalFile | URL | FileContent,
    document: FileDocument = {},
  ): Promise<IndexedDocument> {
    return this.#sendFile(datasetPath(datasetId, 'documents', documentId, 'update-by-file'), file, document);
  }

  #sendFile(
    path: string,
    file: string | LocalFile | URL | FileContent,
    { filename, ...document }: FileDocument,
  ): Promise<IndexedDocument> {
    const { options, fields } = splitRequest(document);
    return this.upload(path, file, filename, fields, options);
  }

  // ----------------------------------------------------------------------------------------------------------- wait

  /** How far the documents of a batch are. */
  async getIndexingStatus(
    datasetId: string,
    batch: BatchRef,
    options: CallOptions = {},
  ): Promise<readonly IndexingStatus[]> {
    const path = datasetPath(datasetId, 'documents', toBatch(batch), 'indexing-status');
    return this.callForList('GET', path, options, 'data');
  }

  /**
   * Polls until all documents of a batch are completed or in error. WaitTimeoutError, with the last statuses, after the
   * plan's timeout; the indexing itself continues.
   */
  async waitUntilIndexed(
    datasetId: string,
    batch: BatchRef,
    { polling, raiseOnFailure, signal }: IndexingWait = {},
  ): Promise<readonly IndexingStatus[]> {
    const plan = this.plan(polling);
    const { clock } = this.transport;
    const deadline = clock() + plan.timeout;
    let interval = plan.first;
    let documents: readonly IndexingStatus[] = [];
    for (let remaining = plan.timeout; remaining > 0; remaining = deadline - clock()) {
      await this.transport.sleep(Math.min(interval, remaining), signal);
      interval = Math.min(plan.longest, interval * plan.factor);
      try {
        const timeout = Math.max(deadline - clock(), 0) + GRACE;
        documents = await this.getIndexingStatus(datasetId, batch, { signal, timeout });
      } catch (error) {
        if (!(error instanceof TimeoutError) || clock() < deadline) throw error;
        break;
      }
      if (!documents.every(isIndexed)) continue;
      const failed = documents.filter(({ indexing_status }) => indexing_status === 'error');
      if (failed.length && raiseOnFailure) throw indexingFailed(failed, documents);
      return documents;
    }
    throw indexingTimeout(documents, plan);
  }

  // --------------------------------------------------------------------------------------------------- read, change

  /** The documents of a knowledge base, newest first. */
  listDocuments(datasetId: string, filter: DocumentFilter = {}): Pages<Document> {
    const { keyword, status, limit = 20, page } = filter;
    return this.pages(datasetPath(datasetId, 'documents'), filter, { keyword, status, limit }, page);
  }

  /** A document with its settings. `metadata`: all fields (the default), only the metadata, or all without it. */
  async getDocument(
    datasetId: string,
    documentId: string,
    options: CallOptions & { metadata?: 'all' | 'only' | 'without' | undefined } = {},
  ): Promise<DocumentDetail> {
    const { metadata } = options;
    return this.call('GET', datasetPath(datasetId, 'documents', documentId), options, undefined, 'always', {
      metadata,
    });
  }

  /** Deletes a document and its segments. */
  async deleteDocument(datasetId: string, documentId: string, options: CallOptions = {}): Promise<void> {
    await this.send('DELETE', datasetPath(datasetId, 'documents', documentId), options);
  }

  /**
   * Enables, disables, archives documents, or takes them out of the archive. A search finds only documents that are
   * enabled and not archived.
   */
  async updateDocumentStatus(
    datasetId: string,
    documentIds: readonly string[],
    action: DocumentAction,
    options: CallOptions = {},
  ): Promise<Done> {
    const path = datasetPath(datasetId, 'documents', 'status', action);
    return this.call('PATCH', path, options, { document_ids: documentIds });
  }

  /** A signed URL of a document's file; no key is needed to download it. */
  async getDocumentUrl(datasetId: string, documentId: string, options: CallOptions = {}): Promise<string> {
    const path = datasetPath(datasetId, 'documents', documentId, 'download');
    return String((await this.call<Values>('GET', path, options))['url'] ?? '');
  }

  /** The files of up to 100 documents, as one ZIP archive. */
  async downloadDocuments(
    datasetId: string,
    documentIds: readonly string[],
    { signal, timeout }: CallOptions = {},
  ): Promise<Uint8Array> {
    const path = datasetPath(datasetId, 'documents', 'download-zip');
    const json = { document_ids: documentIds };
    return (await this.transport.send({ method: 'POST', path, json, repeat: 'always', signal, timeout })).bytes;
  }
}

function isIndexed({ indexing_status }: IndexingStatus): boolean {
  return indexing_status === 'completed' || indexing_status === 'error';
}

function toBatch(batch: BatchRef): string {
  const name: unknown = typeof batch === 'string' ? batch : batch.batch;
  if (typeof name === 'string' && name) return name;
  throw new UsageError('A batch is required: a string, or what creating or changing a document returned.');
}

function indexingFailed(failed: readonly IndexingStatus[], documents: readonly IndexingStatus[]): IndexingFailedError {
  const reasons = failed.slice(0, 3).map(({ id, error }) => `${id}: ${error ?? 'unknown error'}`);
  const message = `${failed.length} of ${documents.length} documents could not be indexed: ${reasons.join('; ')}`;
  return new IndexingFailedError(message, { documents });
}

function indexingTimeout(documents: readonly IndexingStatus[], plan: Plan): WaitTimeoutError {
  const ended = documents.filter(isIndexed).length;
  const progress = documents.length
    ? `${ended} of ${documents.length} documents have ended`
    : 'its status is not known';
  const message = `The indexing had not ended after ${formatSeconds(plan.timeout)}; ${progress}.`;
  return new WaitTimeoutError(message, { documents });
}
