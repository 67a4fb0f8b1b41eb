/** The models of knowledge bases. Fields keep the server's names; unknown fields are kept, too. */

import type { Fields, Values } from './fields.js';

/** A tag for knowledge bases. */
export interface Tag extends Fields {
  readonly id: string;
  readonly name: string;
  readonly type?: string | null;
  readonly binding_count?: string | number | null;
}

/** A field of the documents' metadata. `count`: how many documents have a value, where that is listed. */
export interface MetadataField extends Fields {
  readonly id: string;
  readonly name: string;
  readonly type: string;
  readonly count?: number | null;
}

/** The fields of a knowledge base's metadata. */
export interface MetadataFields extends Fields {
  readonly doc_metadata: readonly MetadataField[];
  readonly built_in_field_enabled?: boolean | null;
}

/** A value in a document's metadata. A built-in field's id is "built-in". */
export interface MetadataValue extends Fields {
  readonly id: string;
  readonly name: string;
  readonly type: string;
  readonly value?: string | number | boolean | null;
}

/** A knowledge base. `..._at` are seconds since the epoch. */
export interface Dataset extends Fields {
  readonly id: string;
  readonly name: string;
  readonly description?: string | null;
  readonly provider?: string | null;
  readonly permission?: string | null;
  readonly data_source_type?: string | null;
  readonly indexing_technique?: string | null;
  readonly app_count?: number | null;
  readonly document_count?: number | null;
  readonly word_count?: number | null;
  readonly created_by?: string | null;
  readonly author_name?: string | null;
  readonly created_at?: number | null;
  readonly updated_by?: string | null;
  readonly updated_at?: number | null;
  readonly embedding_model?: string | null;
  readonly embedding_model_provider?: string | null;
  readonly embedding_available?: boolean | null;
  readonly retrieval_model_dict?: Values | null;
  readonly summary_index_setting?: Values | null;
  readonly tags?: readonly Tag[] | null;
  readonly doc_form?: string | null;
  readonly external_knowledge_info?: Values | null;
  readonly external_retrieval_model?: Values | null;
  readonly doc_metadata?: readonly MetadataField[] | null;
  readonly built_in_field_enabled?: boolean | null;
  readonly pipeline_id?: string | null;
  readonly runtime_mode?: string | null;
  readonly chunk_structure?: string | null;
  readonly icon_info?: Values | null;
  readonly is_published?: boolean | null;
  readonly total_documents?: number | null;
  readonly total_available_documents?: number | null;
  readonly enable_api?: boolean | null;
  readonly is_multimodal?: boolean | null;
  readonly maintainer?: string | null;
  readonly partial_member_list?: readonly unknown[] | null;
}

interface DocumentFields extends Fields {
  readonly id: string;
  readonly position?: number | null;
  readonly data_source_type?: string | null;
  readonly data_source_info?: Values | null;
  readonly dataset_process_rule_id?: string | null;
  readonly name?: string;
  readonly created_from?: string | null;
  readonly created_by?: string | null;
  readonly created_at?: number | null;
  readonly tokens?: number | null;
  readonly indexing_status?: string;
  readonly error?: string | null;
  readonly enabled?: boolean | null;
  readonly disabled_at?: number | null;
  readonly disabled_by?: string | null;
  readonly archived?: boolean | null;
  readonly display_status?: string | null;
  readonly hit_count?: number | null;
  readonly doc_form?: string | null;
  readonly summary_index_status?: string | null;
  readonly need_summary?: boolean | null;
}

/** A document. `indexing_status`: waiting, parsing, cleaning, splitting, indexing, completed, error or paused. */
export interface Document extends DocumentFields {
  readonly name: string;
  readonly indexing_status: string;
  readonly data_source_detail_dict?: Values | null;
  readonly word_count?: number | null;
  readonly doc_metadata?: readonly MetadataValue[] | null;
}

/** A document with its settings. `doc_metadata` is a mapping on old servers. */
export interface DocumentDetail extends DocumentFields {
  readonly doc_type?: string | null;
  readonly doc_metadata?: readonly MetadataValue[] | Values | null;
  readonly dataset_process_rule?: Values | null;
  readonly document_process_rule?: Values | null;
  readonly doc_language?: string | null;
  readonly completed_at?: number | null;
  readonly updated_at?: number | null;
  readonly indexing_latency?: number | null;
  readonly segment_count?: number | null;
  readonly average_segment_length?: number | null;
}

/** A document that is being indexed after the response; `batch` names this indexing. */
export interface IndexedDocument extends Fields {
  readonly document: Document;
  readonly batch: string;
}

/** How far the indexing of a document is. */
export interface IndexingStatus extends Fields {
  readonly id: string;
  readonly indexing_status: string;
  readonly processing_started_at?: number | null;
  readonly parsing_completed_at?: number | null;
  readonly cleaning_completed_at?: number | null;
  readonly splitting_completed_at?: number | null;
  readonly completed_at?: number | null;
  readonly paused_at?: number | null;
  readonly error?: string | null;
  readonly stopped_at?: number | null;
  readonly completed_segments?: number | null;
  readonly total_segments?: number | null;
}

/** A piece of a segment, by which the segment is found. `score`: in a search's result. */
export interface ChildChunk extends Fields {
  readonly id: string;
  readonly segment_id?: string | null;
  readonly content: string;
  readonly position?: number | null;
  readonly word_count?: number | null;
  readonly type?: string | null;
  readonly created_at?: number | null;
  readonly updated_at?: number | null;
  readonly score?: number | null;
}

/** A file of a segment. */
export interface Attachment extends Fields {
  readonly id: string;
  readonly name: string;
  readonly size?: number | null;
  readonly extension?: string | null;
  readonly mime_type?: string | null;
  readonly source_url?: string | null;
}

interface SegmentFields extends Fields {
  readonly id: string;
  readonly position?: number | null;
  readonly document_id: string;
  readonly content: string;
  readonly sign_content?: string | null;
  readonly answer?: string | null;
  readonly word_count?: number | null;
  readonly tokens?: number | null;
  readonly keywords?: readonly string[] | null;
  readonly index_node_id?: string | null;
  readonly index_node_hash?: string | null;
  readonly hit_count?: number | null;
  readonly enabled?: boolean | null;
  readonly disabled_at?: number | null;
  readonly disabled_by?: string | null;
  readonly status?: string | null;
  readonly created_by?: string | null;
  readonly created_at?: number | null;
  readonly indexing_at?: number | null;
  readonly completed_at?: number | null;
  readonly error?: string | null;
  readonly stopped_at?: number | null;
}

/** A piece of a document (a chunk). */
export interface Segment extends SegmentFields {
  readonly updated_at?: number | null;
  readonly updated_by?: string | null;
  readonly child_chunks?: readonly ChildChunk[] | null;
  readonly attachments?: readonly Attachment[] | null;
  readonly summary?: string | null;
}

/** The document of a segment that a search found. */
export interface RetrievedDocument extends Fields {
  readonly id: string;
  readonly data_source_type?: string | null;
  readonly name: string;
  readonly doc_type?: string | null;
  readonly doc_metadata?: Values | null;
}

export interface RetrievedSegment extends SegmentFields {
  readonly document?: RetrievedDocument | null;
}

/** A segment that a search found. `score` is null where keywords found it. */
export interface RetrievedRecord extends Fields {
  readonly segment: RetrievedSegment;
  readonly child_chunks?: readonly ChildChunk[] | null;
  readonly score?: number | null;
  readonly tsne_position?: Values | null;
  readonly files?: readonly Attachment[] | null;
  readonly summary?: string | null;
}

/** What a search found, best first. */
export interface Retrieved extends Fields {
  readonly query?: Values | null;
  readonly records: readonly RetrievedRecord[];
}

/** A model that a knowledge base can use. */
export interface Model extends Fields {
  readonly model: string;
  readonly label?: Readonly<Record<string, string>> | null;
  readonly model_type?: string | null;
  readonly features?: readonly string[] | null;
  readonly fetch_from?: string | null;
  readonly model_properties?: Values | null;
  readonly status?: string | null;
  readonly deprecated?: boolean | null;
  readonly load_balancing_enabled?: boolean | null;
  readonly has_invalid_load_balancing_configs?: boolean | null;
}

/** A provider with its models of the requested type. */
export interface ModelProvider extends Fields {
  readonly provider: string;
  readonly label?: Readonly<Record<string, string>> | null;
  readonly icon_small?: Readonly<Record<string, string>> | null;
  readonly icon_small_dark?: Readonly<Record<string, string>> | null;
  readonly status?: string | null;
  readonly models: readonly Model[];
  readonly tenant_id?: string | null;
}

/** A file that was uploaded for a pipeline; its `id` is a `reference` of `runPipeline`. */
export interface PipelineFile extends Fields {
  readonly id: string;
  readonly name: string;
  readonly size?: number | null;
  readonly extension?: string | null;
  readonly mime_type?: string | null;
  readonly created_by?: string | null;
  readonly created_at?: string | null;
}

/** A datasource of a pipeline; a run of the pipeline starts at its `node_id`. */
export interface DatasourcePlugin extends Fields {
  readonly node_id: string;
  readonly plugin_id?: string | null;
  readonly provider_name?: string | null;
  readonly datasource_type?: string | null;
  readonly title?: string | null;
  readonly user_input_variables?: readonly Values[] | null;
  readonly credentials?: readonly Values[] | null;
}

/** A run of a published pipeline: its documents, which are being indexed. For a run of a draft, what it returned is in `data`. */
export interface PipelineRun extends Fields {
  readonly batch?: string | null;
  readonly dataset?: Values | null;
  readonly documents?: readonly Document[] | null;
  readonly task_id?: string | null;
  readonly workflow_run_id?: string | null;
  readonly data?: Values | null;
}
