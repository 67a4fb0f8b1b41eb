/** How a knowledge base is searched: as a form has it, and as the API does. */

import { modelName, splitModel } from './knowledge';

export const METHODS = ['semantic_search', 'full_text_search', 'hybrid_search'] as const;
export type Method = (typeof METHODS)[number];
export const ORDERS = ['scores', 'weights', 'rerank'] as const;
/** What decides about the order: the scores of the search, weights of its two parts (hybrid), or a model. */
export type Order = (typeof ORDERS)[number];

export interface Retrieval {
  method: Method;
  topK: number;
  threshold: number | null;
  order: Order;
  meaning: number; // of 1, the rest is that of the words
  rerank: string; // PROVIDER/MODEL
}

export interface RetrievalModel {
  search_method: Method | 'keyword_search';
  reranking_enable: boolean;
  reranking_mode?: 'reranking_model' | 'weighted_score' | null;
  reranking_model?: { reranking_provider_name: string | null; reranking_model_name: string | null } | null;
  weights?: { vector_setting?: { vector_weight: number } | null } | null;
  top_k: number;
  score_threshold_enabled: boolean;
  score_threshold?: number | null;
}

export function retrievalOf(stored: RetrievalModel): Retrieval {
  const model = stored.reranking_model;
  const rerank = modelName(model?.reranking_provider_name ?? '', model?.reranking_model_name ?? '');
  const weight = stored.reranking_mode === 'weighted_score' ? stored.weights?.vector_setting?.vector_weight : undefined;
  return {
    method: stored.search_method === 'keyword_search' ? 'semantic_search' : stored.search_method,
    topK: stored.top_k,
    threshold: stored.score_threshold_enabled ? (stored.score_threshold ?? null) : null,
    order: stored.reranking_enable && rerank ? 'rerank' : weight === undefined ? 'scores' : 'weights',
    meaning: weight ?? 0.7,
    rerank,
  };
}

export function retrievalModel(form: Retrieval): RetrievalModel {
  const { provider, model } = splitModel(form.rerank);
  const order = form.order === 'weights' && form.method !== 'hybrid_search' ? 'scores' : form.order;
  return {
    search_method: form.method,
    reranking_enable: order === 'rerank',
    reranking_mode: order === 'weights' ? 'weighted_score' : order === 'rerank' ? 'reranking_model' : null,
    reranking_model: { reranking_provider_name: provider, reranking_model_name: model },
    weights: order === 'weights' ? weights(form.meaning) : null,
    top_k: form.topK,
    score_threshold_enabled: form.threshold !== null,
    score_threshold: form.threshold,
  };
}

function weights(meaning: number) {
  return {
    weight_type: 'customized',
    vector_setting: { vector_weight: meaning },
    keyword_setting: { keyword_weight: Math.round((1 - meaning) * 100) / 100 },
  };
}
