import { encodeSegment } from './core.js';
import { datasetPath, splitRequest } from './dataset-calls.js';
import type { Dataset, ModelProvider, Retrieved } from './dataset-models.js';
import type { DatasetChanges, DatasetFilter, DatasetRequest, RetrieveRequest } from './dataset-requests.js';
import type { CallOptions } from './options.js';
import type { Pages } from './pages.js';
import { Pipelines } from './pipelines.js';

/** Knowledge bases: `client.datasets`. The client's key is a knowledge key (`dataset-...`). */
export class Datasets extends Pipelines {
  /** Creates an empty knowledge base. ConflictError if there is one of this name. */
  async createDataset(request: DatasetRequest): Promise<Dataset> {
    const { options, fields } = splitRequest(request);
    return this.call('POST', '/v1/datasets', options, fields, 'unsent');
  }

  /** The knowledge bases of the key's workspace, newest first. */
  listDatasets(filter: DatasetFilter = {}): Pages<Dataset> {
    const { keyword, tagIds, includeAll, limit = 20, page } = filter;
    const query = { keyword, tag_ids: tagIds, include_all: includeAll, limit };
    return this.pages('/v1/datasets', filter, query, page);
  }

  /** A knowledge base. */
  async getDataset(datasetId: string, options: CallOptions = {}): Promise<Dataset> {
    return this.call('GET', datasetPath(datasetId), options);
  }

  /** Changes a knowledge base. Another embedding model indexes all its documents again. */
  async updateDataset(datasetId: string, changes: DatasetChanges): Promise<Dataset> {
    const { options, fields } = splitRequest(changes);
    return this.call('PATCH', datasetPath(datasetId), options, fields);
  }

  /** Deletes a knowledge base and its documents. */
  async deleteDataset(datasetId: string, options: CallOptions = {}): Promise<void> {
    await this.send('DELETE', datasetPath(datasetId), options);
  }

  /** Searches a knowledge base (hit testing). */
  async retrieve(datasetId: string, request: RetrieveRequest): Promise<Retrieved> {
    const { options, fields } = splitRequest(request);
    return this.call('POST', datasetPath(datasetId, 'retrieve'), options, fields);
  }

  /** The models of a type, by provider: text-embedding, rerank, llm, tts, speech2text or moderation. */
  async getModels(modelType = 'text-embedding', options: CallOptions = {}): Promise<readonly ModelProvider[]> {
    const path = `/v1/workspaces/current/models/model-types/${encodeSegment(modelType)}`;
    return this.callForList('GET', path, options, 'data');
  }
}
