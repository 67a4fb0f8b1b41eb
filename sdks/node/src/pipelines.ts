import { datasetPath } from './dataset-calls.js';
import type { DatasourcePlugin, PipelineFile, PipelineRun } from './dataset-models.js';
import type { DatasourceRequest, PipelineRequest } from './dataset-requests.js';
import { Documents } from './documents.js';
import { ConnectionError } from './errors.js';
import { EventReader } from './event-reader.js';
import type { RawEvent } from './event-reader.js';
import type { FileContent, LocalFile } from './files.js';
import type { CallOptions } from './options.js';
import { EventStream } from './streams.js';

const ENDS: ReadonlySet<string> = new Set(['datasource_completed', 'datasource_error', 'error']);

/** Calls for knowledge pipelines. */
export class Pipelines extends Documents {
  /** Uploads a file for a pipeline; its `id` is the `reference` of a file in `runPipeline`. */
  async uploadPipelineFile(
    file: string | LocalFile | URL | FileContent,
    options: CallOptions & { filename?: string | undefined } = {},
  ): Promise<PipelineFile> {
    return this.upload(datasetPath('pipeline', 'file-upload'), file, options.filename, null, options);
  }

  /** The datasources of a knowledge base's pipeline, published or as a draft. */
  async getDatasourcePlugins(
    datasetId: string,
    options: CallOptions & { isPublished?: boolean | undefined } = {},
  ): Promise<readonly DatasourcePlugin[]> {
    const path = datasetPath(datasetId, 'pipeline', 'datasource-plugins');
    const query = { is_published: options.isPublished ?? true };
    return this.callForList('GET', path, options, null, undefined, 'always', query);
  }

  /**
   * Runs a datasource and streams its events (`datasource_processing`, `datasource_completed`). A stream that is cut is
   * not resumed.
   */
  streamDatasourceNode(datasetId: string, nodeId: string, request: DatasourceRequest): EventStream<RawEvent> {
    const { signal, timeout, credentialId } = request;
    const json = {
      inputs: request.inputs ?? {},
      datasource_type: request.datasourceType,
      is_published: request.isPublished ?? true,
      ...(credentialId === undefined ? {} : { credential_id: credentialId }),
    };
    const path = datasetPath(datasetId, 'pipeline', 'datasource', 'nodes', nodeId, 'run');
    return new EventStream<RawEvent>(
      {
        start: () => this.transport.open({ method: 'POST', path, json, repeat: 'unsent', signal, timeout }),
        pause: (attempt) => this.transport.sleep(this.transport.pause(attempt), signal),
        resume: () => Promise.resolve(null),
        fetchOutcome: () => Promise.reject(new ConnectionError("a datasource's stream cannot be resumed")),
      },
      new EventReader(ENDS),
    );
  }

  /**
   * Runs a pipeline. A published pipeline's run returns at once with its documents (see `waitUntilIndexed`), a draft's
   * when it has ended.
   */
  async runPipeline(datasetId: string, request: PipelineRequest): Promise<PipelineRun> {
    const json = {
      inputs: request.inputs ?? {},
      datasource_type: request.datasourceType ?? 'local_file',
      datasource_info_list: request.datasources,
      start_node_id: request.startNodeId,
      is_published: request.isPublished ?? true,
      response_mode: 'blocking',
    };
    return this.call('POST', datasetPath(datasetId, 'pipeline', 'run'), request, json, 'unsent');
  }
}
