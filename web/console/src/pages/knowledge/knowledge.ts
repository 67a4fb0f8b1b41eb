/** Knowledge bases, their documents and chunks, as the API returns them, and how a page follows what goes on. */

import { onScopeDispose, watch, type ShallowRef } from 'vue';
import type { State } from '@ui/states';
import { call } from '../../api';

export type Technique = 'high_quality' | 'economy';
export type DocForm = 'text_model' | 'hierarchical_model' | 'qa_model';
export const DOC_FORMS: readonly DocForm[] = ['text_model', 'hierarchical_model', 'qa_model'];

export interface Base {
  id: string;
  name: string;
  description: string;
  technique: Technique | null; // null until the first document decides it
  doc_form: DocForm | null;
  embedding_provider: string;
  embedding_model: string;
  embedding_available: boolean;
  documents: number;
  available_documents: number;
  indexing_documents: number;
  paused_documents: number;
  failed_documents: number;
  chunks: number;
  words: number;
  created_at: number;
}

export const STATUSES = ['available', 'queuing', 'indexing', 'paused', 'error', 'disabled', 'archived'] as const;
export type DocumentStatus = (typeof STATUSES)[number];

export interface KnowledgeDocument {
  id: string;
  name: string;
  status: DocumentStatus;
  error: string | null;
  enabled: boolean;
  archived: boolean;
  doc_form: DocForm;
  words: number;
  hits: number;
  chunks: number;
  indexed_chunks: number;
  created_at: number;
}

export interface ChildChunk {
  id: string;
  content: string;
  position: number;
}

export interface Chunk {
  id: string;
  position: number;
  content: string;
  answer: string | null;
  word_count: number;
  keywords: string[];
  hit_count: number;
  enabled: boolean;
  status: 'waiting' | 'indexing' | 'completed' | 'error';
  error: string | null;
  child_chunks: ChildChunk[];
  summary: string | null;
}

/** A page of a list whose pages have numbers. */
export interface NumberedPage<T> {
  data: T[];
  total: number;
  page: number;
  limit: number;
}

export const STATE_OF: Record<DocumentStatus, State> = {
  available: 'done',
  queuing: 'queued',
  indexing: 'running',
  paused: 'waiting',
  error: 'failed',
  disabled: 'stopped',
  archived: 'skipped',
};

export const isUnfinished = (document: KnowledgeDocument): boolean =>
  document.status === 'queuing' || document.status === 'indexing';

/** The worst first: what has failed, then what goes on. */
export type BaseState = 'failed' | 'indexing' | 'paused' | 'empty' | 'ready';

export const BASE_STATES: Record<BaseState, State> = {
  failed: 'failed',
  indexing: 'running',
  paused: 'waiting',
  empty: 'unmet',
  ready: 'done',
};

export function stateOf(base: Base): { state: BaseState; count: number } {
  if (base.failed_documents) return { state: 'failed', count: base.failed_documents };
  if (base.indexing_documents) return { state: 'indexing', count: base.indexing_documents };
  if (base.paused_documents) return { state: 'paused', count: base.paused_documents };
  return { state: base.documents ? 'ready' : 'empty', count: base.documents };
}

export const BASES = '/knowledge/bases';
/** Dify's operations on one knowledge base. */
export const datasetPath = (base: string): string => `/knowledge/v1/datasets/${base}`;
export const documentPath = (base: string, document: string): string => `${BASES}/${base}/documents/${document}`;
export const chunksPath = (base: string, document: string): string =>
  `${datasetPath(base)}/documents/${document}/segments`;

export const readBase = (id: string, signal: AbortSignal): Promise<Base> => call<Base>(`${BASES}/${id}`, { signal });

/** `PROVIDER/MODEL`, as settings have it. The provider may contain slashes itself. */
export const modelName = (provider: string, model: string): string => (model ? `${provider}/${model}` : '');

export function splitModel(name: string): { provider: string; model: string } {
  const at = name.trim().lastIndexOf('/');
  return { provider: name.trim().slice(0, Math.max(0, at)), model: name.trim().slice(at + 1) };
}

const PAUSE = 1000; // ms between two reads of what goes on

/** Reads data again as long as it `goesOn`, each time a little after the answer. */
export function useLive<T>(data: ShallowRef<T | undefined>, reload: () => Promise<void>, goesOn: (now: T) => boolean) {
  let timer = 0;
  function schedule(): void {
    clearTimeout(timer);
    if (data.value !== undefined && goesOn(data.value)) {
      timer = window.setTimeout(() => void reload().then(schedule), PAUSE);
    }
  }
  watch(data, schedule);
  onScopeDispose(() => clearTimeout(timer));
}
