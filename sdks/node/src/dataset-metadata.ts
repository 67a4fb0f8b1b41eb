import { DatasetCalls, datasetPath } from './dataset-calls.js';
import type { MetadataField, MetadataFields, Tag } from './dataset-models.js';
import type { DocumentMetadata, MetadataType } from './dataset-requests.js';
import type { Done } from './models.js';
import type { CallOptions } from './options.js';

const TAGS = '/v1/datasets/tags';

/** Calls for the metadata of documents, and for the tags of knowledge bases. */
export class DatasetMetadata extends DatasetCalls {
  /** Adds a field to the documents' metadata. */
  createMetadataField(
    datasetId: string,
    name: string,
    type: MetadataType = 'string',
    options: CallOptions = {},
  ): Promise<MetadataField> {
    return this.call('POST', datasetPath(datasetId, 'metadata'), options, { type, name }, 'unsent');
  }

  /** The fields of the documents' metadata, and whether the built-in ones are switched on. */
  async getMetadataFields(datasetId: string, options: CallOptions = {}): Promise<MetadataFields> {
    return this.call('GET', datasetPath(datasetId, 'metadata'), options);
  }

  /** Renames a field. */
  async renameMetadataField(
    datasetId: string,
    metadataId: string,
    name: string,
    options: CallOptions = {},
  ): Promise<MetadataField> {
    // a repeated request would say that the name exists
    return this.call('PATCH', datasetPath(datasetId, 'metadata', metadataId), options, { name }, 'unsent');
  }

  /** Deletes a field and the documents' values of it. */
  async deleteMetadataField(datasetId: string, metadataId: string, options: CallOptions = {}): Promise<void> {
    await this.send('DELETE', datasetPath(datasetId, 'metadata', metadataId), options);
  }

  /** The fields that every document has where they are switched on. */
  async getBuiltInFields(datasetId: string, options: CallOptions = {}): Promise<readonly MetadataField[]> {
    return this.callForList('GET', datasetPath(datasetId, 'metadata', 'built-in'), options, 'fields');
  }

  /** Switches the built-in fields on or off. */
  async switchBuiltInFields(datasetId: string, on: boolean, options: CallOptions = {}): Promise<Done> {
    return this.call('POST', datasetPath(datasetId, 'metadata', 'built-in', on ? 'enable' : 'disable'), options);
  }

  /** Sets the metadata of documents. */
  async updateDocumentMetadata(
    datasetId: string,
    documents: readonly DocumentMetadata[],
    options: CallOptions = {},
  ): Promise<Done> {
    const path = datasetPath(datasetId, 'documents', 'metadata');
    return this.call('POST', path, options, { operation_data: documents });
  }

  // ----------------------------------------------------------------------------------------------------------- tags

  /** Creates a tag for knowledge bases. */
  async createTag(name: string, options: CallOptions = {}): Promise<Tag> {
    return this.call('POST', TAGS, options, { name }, 'unsent');
  }

  /** The tags of the key's workspace. */
  async getTags(options: CallOptions = {}): Promise<readonly Tag[]> {
    return this.callForList('GET', TAGS, options, null);
  }

  /** Renames a tag. */
  async renameTag(tagId: string, name: string, options: CallOptions = {}): Promise<Tag> {
    return this.call('PATCH', TAGS, options, { tag_id: tagId, name }, 'unsent');
  }

  /** Deletes a tag; the knowledge bases that have it stay. */
  async deleteTag(tagId: string, options: CallOptions = {}): Promise<void> {
    await this.send('DELETE', TAGS, options, { tag_id: tagId });
  }

  /** Gives a knowledge base tags. */
  async bindTags(datasetId: string, tagIds: readonly string[], options: CallOptions = {}): Promise<void> {
    await this.send('POST', `${TAGS}/binding`, options, { target_id: datasetId, tag_ids: tagIds });
  }

  /** Takes tags from a knowledge base. */
  async unbindTags(datasetId: string, tagIds: readonly string[], options: CallOptions = {}): Promise<void> {
    await this.send('POST', `${TAGS}/unbinding`, options, { target_id: datasetId, tag_ids: tagIds });
  }

  /** The tags of a knowledge base. */
  async getDatasetTags(datasetId: string, options: CallOptions = {}): Promise<readonly Tag[]> {
    return this.callForList('GET', datasetPath(datasetId, 'tags'), options, 'data');
  }
}
