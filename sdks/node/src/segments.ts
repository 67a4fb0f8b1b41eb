import { datasetPath, splitRequest } from './dataset-calls.js';
import { DatasetMetadata } from './dataset-metadata.js';
import type { ChildChunk, Segment } from './dataset-models.js';
import type { NewSegment, PageOptions, SegmentChanges, SegmentFilter } from './dataset-requests.js';
import type { CallOptions } from './options.js';
import type { Pages } from './pages.js';

/** Calls for segments of documents (chunks), and for their child chunks. */
export class Segments extends DatasetMetadata {
  /** Adds segments to a document that is indexed. */
  async createSegments(
    datasetId: string,
    documentId: string,
    segments: readonly NewSegment[],
    options: CallOptions = {},
  ): Promise<readonly Segment[]> {
    return this.callForList('POST', segmentPath(datasetId, documentId), options, 'data', { segments }, 'unsent');
  }

  /** The segments of a document, in their order. */
  listSegments(datasetId: string, documentId: string, filter: SegmentFilter = {}): Pages<Segment> {
    const { keyword, status, limit = 20, page } = filter;
    return this.pages(segmentPath(datasetId, documentId), filter, { keyword, status, limit }, page);
  }

  /** A segment. */
  async getSegment(
    datasetId: string,
    documentId: string,
    segmentId: string,
    options: CallOptions = {},
  ): Promise<Segment> {
    return this.callForData('GET', segmentPath(datasetId, documentId, segmentId), options);
  }

  /** Changes a segment, and indexes it again. */
  async updateSegment(
    datasetId: string,
    documentId: string,
    segmentId: string,
    changes: SegmentChanges,
  ): Promise<Segment> {
    const { options, fields } = splitRequest(changes);
    return this.callForData('POST', segmentPath(datasetId, documentId, segmentId), options, { segment: fields });
  }

  /** Deletes a segment. */
  async deleteSegment(
    datasetId: string,
    documentId: string,
    segmentId: string,
    options: CallOptions = {},
  ): Promise<void> {
    await this.send('DELETE', segmentPath(datasetId, documentId, segmentId), options);
  }

  // --------------------------------------------------------------------------------------------------- child chunks

  /** Adds a child chunk to a segment. */
  async createChildChunk(
    datasetId: string,
    documentId: string,
    segmentId: string,
    content: string,
    options: CallOptions = {},
  ): Promise<ChildChunk> {
    const path = segmentPath(datasetId, documentId, segmentId, 'child_chunks');
    return this.callForData('POST', path, options, { content }, 'unsent');
  }

  /** The child chunks of a segment, in their order. */
  listChildChunks(
    datasetId: string,
    documentId: string,
    segmentId: string,
    filter: PageOptions = {},
  ): Pages<ChildChunk> {
    const { keyword, limit = 20, page } = filter;
    return this.pages(segmentPath(datasetId, documentId, segmentId, 'child_chunks'), filter, { keyword, limit }, page);
  }

  /** Changes a child chunk. */
  async updateChildChunk(
    datasetId: string,
    documentId: string,
    segmentId: string,
    childChunkId: string,
    content: string,
    options: CallOptions = {},
  ): Promise<ChildChunk> {
    const path = segmentPath(datasetId, documentId, segmentId, 'child_chunks', childChunkId);
    return this.callForData('PATCH', path, options, { content });
  }

  /** Deletes a child chunk. */
  async deleteChildChunk(
    datasetId: string,
    documentId: string,
    segmentId: string,
    childChunkId: string,
    options: CallOptions = {},
  ): Promise<void> {
    await this.send('DELETE', segmentPath(datasetId, documentId, segmentId, 'child_chunks', childChunkId), options);
  }
}

function segmentPath(datasetId: string, documentId: string, ...more: readonly string[]): string {
  return datasetPath(datasetId, 'documents', documentId, 'segments', ...more);
}
