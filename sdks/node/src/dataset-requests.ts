/** The requests of calls for knowledge bases. Objects within them have the server's names. */

import type { CallOptions, PollingPlan } from './options.js';
import type { Values } from './models.js';

export type IndexingTechnique = 'high_quality' | 'economy';
export type DocForm = 'text_model' | 'hierarchical_model' | 'qa_model';
export type DatasetPermission = 'only_me' | 'all_team_members' | 'partial_members';
export type DocumentAction = 'enable' | 'disable' | 'archive' | 'un_archive';
export type MetadataType = 'string' | 'number' | 'time';
export type DatasourceType = 'local_file' | 'online_document' | 'website_crawl' | 'online_drive';

/** A condition on a field of the documents' metadata. */
export interface MetadataCondition {
  readonly name: string;
  readonly comparison_operator: string;
  readonly value?: string | number | readonly string[] | null;
}

/** How a knowledge base is searched. */
export interface RetrievalModel {
  readonly search_method: 'semantic_search' | 'full_text_search' | 'hybrid_search' | 'keyword_search';
  readonly reranking_enable: boolean;
  readonly reranking_mode?: 'reranking_model' | 'weighted_score' | null;
  readonly reranking_model?: {
    readonly reranking_provider_name?: string | null;
    readonly reranking_model_name?: string | null;
  } | null;
  /** What similarity and keywords count in a hybrid search. */
  readonly weights?: {
    readonly weight_type?: 'semantic_first' | 'keyword_first' | 'customized' | null;
    readonly vector_setting?: {
      readonly vector_weight?: number;
      readonly embedding_provider_name?: string;
      readonly embedding_model_name?: string;
    } | null;
    readonly keyword_setting?: { readonly keyword_weight?: number } | null;
  } | null;
  readonly top_k: number;
  readonly score_threshold_enabled: boolean;
  readonly score_threshold?: number | null;
  /** Which documents are searched. */
  readonly metadata_filtering_conditions?: {
    readonly logical_operator?: 'and' | 'or' | null;
    readonly conditions?: readonly MetadataCondition[] | null;
  } | null;
}

export interface Segmentation {
  readonly separator?: string;
  readonly max_tokens: number;
  readonly chunk_overlap?: number;
}

/** How a document is cleaned and split. */
export interface ProcessRule {
  readonly mode: 'automatic' | 'custom' | 'hierarchical';
  readonly rules?: {
    readonly pre_processing_rules?:
      | readonly {
          readonly id: 'remove_extra_spaces' | 'remove_urls_emails' | 'remove_stopwords';
          readonly enabled: boolean;
        }[]
      | null;
    readonly segmentation?: Segmentation | null;
    readonly parent_mode?: 'full-doc' | 'paragraph' | null;
    readonly subchunk_segmentation?: Segmentation | null;
  } | null;
}

interface CommonDatasetSettings extends CallOptions {
  description?: string | undefined;
  indexingTechnique?: IndexingTechnique | null | undefined;
  permission?: DatasetPermission | null | undefined;
  embeddingModel?: string | null | undefined;
  embeddingModelProvider?: string | null | undefined;
  retrievalModel?: RetrievalModel | null | undefined;
  externalKnowledgeId?: string | null | undefined;
  externalKnowledgeApiId?: string | null | undefined;
}

/** A new knowledge base. What is left out, its first document decides. */
export interface DatasetRequest extends CommonDatasetSettings {
  name: string;
  provider?: 'vendor' | 'external' | undefined;
  summaryIndexSetting?: Values | null | undefined;
}

/** What to change in a knowledge base. */
export interface DatasetChanges extends CommonDatasetSettings {
  name?: string | undefined;
  partialMemberList?: readonly { readonly user_id: string }[] | null | undefined;
  externalRetrievalModel?: Values | null | undefined;
}

export interface PageOptions extends CallOptions {
  /** Text in the name or the content. */
  keyword?: string | undefined;
  /** Entries a page: 20; at most 100. */
  limit?: number | undefined;
  /** The first page: 1. */
  page?: number | undefined;
}

export interface DatasetFilter extends PageOptions {
  /** Only knowledge bases with one of these tags. */
  tagIds?: readonly string[] | undefined;
  includeAll?: boolean | undefined;
}

export interface DocumentFilter extends PageOptions {
  status?: 'queuing' | 'indexing' | 'paused' | 'error' | 'available' | 'disabled' | 'archived' | undefined;
}

export interface SegmentFilter extends PageOptions {
  status?: readonly ('waiting' | 'indexing' | 'completed' | 'error')[] | undefined;
}

/** How a document is indexed. The first document of a knowledge base decides what that leaves open. */
export interface DocumentSettings extends CallOptions {
  indexingTechnique?: IndexingTechnique | null | undefined;
  docForm?: DocForm | null | undefined;
  docLanguage?: string | null | undefined;
  processRule?: ProcessRule | null | undefined;
  retrievalModel?: RetrievalModel | null | undefined;
  embeddingModel?: string | null | undefined;
  embeddingModelProvider?: string | null | undefined;
}

export interface TextDocument extends DocumentSettings {
  name: string;
  text: string;
}

export interface TextChanges extends DocumentSettings {
  name?: string | undefined;
  text?: string | undefined;
}

export interface FileDocument extends DocumentSettings {
  /** The name that the file is uploaded with. */
  filename?: string | undefined;
}

export interface IndexingWait {
  /** IndexingFailedError if a document is in error. */
  raiseOnFailure?: boolean | undefined;
  polling?: PollingPlan | undefined;
  signal?: AbortSignal | undefined;
}

/** A batch of documents that are indexed, or what creating or changing a document returned. */
export type BatchRef = string | { readonly batch?: string | null };

export interface RetrieveRequest extends CallOptions {
  query: string;
  /** By default, the knowledge base's own. */
  retrievalModel?: RetrievalModel | undefined;
  externalRetrievalModel?: Values | undefined;
  attachmentIds?: readonly string[] | undefined;
}

/** A segment to add; `content` is a question in a `qa_model` document. */
export interface NewSegment {
  readonly content: string;
  readonly answer?: string | null;
  readonly keywords?: readonly string[] | null;
  readonly attachment_ids?: readonly string[] | null;
}

export interface SegmentChanges extends CallOptions {
  content?: string | undefined;
  answer?: string | null | undefined;
  keywords?: readonly string[] | null | undefined;
  enabled?: boolean | undefined;
  regenerateChildChunks?: boolean | undefined;
  attachmentIds?: readonly string[] | null | undefined;
  summary?: string | null | undefined;
}

/** The values of a document; others of it are removed unless `partial_update`. */
export interface DocumentMetadata {
  readonly document_id: string;
  /** `id` and `name` are those of the field. */
  readonly metadata_list: readonly {
    readonly id: string;
    readonly name: string;
    readonly value: string | number | null;
  }[];
  readonly partial_update?: boolean;
}

export interface DatasourceRequest extends CallOptions {
  datasourceType: DatasourceType;
  inputs?: Values | undefined;
  credentialId?: string | undefined;
  /** The published pipeline (true, the default), or its draft. */
  isPublished?: boolean | undefined;
}

export interface PipelineRequest extends CallOptions {
  /** The datasource at which the run starts. */
  startNodeId: string;
  /** For files `{ reference, name }` each, where `reference` is the id of `uploadPipelineFile`. */
  datasources: readonly Values[];
  /** `local_file` by default. */
  datasourceType?: DatasourceType | undefined;
  inputs?: Values | undefined;
  /** The published pipeline (true, the default), or its draft. */
  isPublished?: boolean | undefined;
}
