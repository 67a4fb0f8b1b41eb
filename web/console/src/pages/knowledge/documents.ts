/** New documents of a knowledge base: how they are split, and their upload. */

import { call } from '../../api';
import { datasetPath, type Base, type DocForm, type Technique } from './knowledge';

/** Extensions that documents can be made of. */
export const ACCEPTED =
  '.txt,.markdown,.md,.mdx,.pdf,.html,.htm,.xlsx,.xls,.vtt,.properties,.doc,.docx,.csv,.eml,.msg,.pptx,.ppt,.xml,.epub';

/** `last`: as the last document of the knowledge base was. */
export type Splitting = 'last' | 'automatic' | 'own';

export interface NewDocuments {
  technique: Technique;
  form: DocForm;
  splitting: Splitting;
  separator: string;
  longest: number;
  overlap: number;
  childSeparator: string;
  childLongest: number;
  removeSpaces: boolean;
  removeAddresses: boolean;
}

export const initial = (base: Base): NewDocuments => ({
  technique: base.technique ?? 'high_quality',
  form: base.doc_form ?? 'text_model',
  splitting: base.documents ? 'last' : 'automatic',
  separator: '\\n\\n',
  longest: 1024,
  overlap: 50,
  childSeparator: '\\n',
  childLongest: 512,
  removeSpaces: true,
  removeAddresses: false,
});

const ESCAPES: Record<string, string> = { n: '\n', r: '\r', t: '\t', '\\': '\\' };
const unescaped = (text: string): string => text.replace(/\\(.)/g, (whole, letter: string) => ESCAPES[letter] ?? whole);

/** Parents are always split by rules; without own ones, by those that the form begins with. */
function processRule(chosen: NewDocuments) {
  const isHierarchical = chosen.form === 'hierarchical_model';
  if (chosen.splitting === 'last') return undefined;
  if (chosen.splitting === 'automatic' && !isHierarchical) return { mode: 'automatic' };
  const rules = {
    pre_processing_rules: [
      { id: 'remove_extra_spaces', enabled: chosen.removeSpaces },
      { id: 'remove_urls_emails', enabled: chosen.removeAddresses },
    ],
    segmentation: {
      separator: unescaped(chosen.separator),
      max_tokens: chosen.longest,
      chunk_overlap: isHierarchical ? 0 : chosen.overlap,
    },
  };
  if (!isHierarchical) return { mode: 'custom', rules };
  const children = { separator: unescaped(chosen.childSeparator), max_tokens: chosen.childLongest, chunk_overlap: 0 };
  return { mode: 'hierarchical', rules: { ...rules, parent_mode: 'paragraph', subchunk_segmentation: children } };
}

export function settingsOf(base: Base, chosen: NewDocuments) {
  return {
    indexing_technique: base.technique ?? chosen.technique,
    doc_form: chosen.form,
    process_rule: processRule(chosen),
  };
}

export async function addFile(base: Base, file: File, chosen: NewDocuments): Promise<void> {
  const body = new FormData();
  body.set('data', JSON.stringify(settingsOf(base, chosen)));
  body.set('file', file);
  await call(`${datasetPath(base.id)}/document/create-by-file`, { method: 'POST', body });
}

export async function addText(base: Base, name: string, text: string, chosen: NewDocuments): Promise<void> {
  const json = { name, text, ...settingsOf(base, chosen) };
  await call(`${datasetPath(base.id)}/document/create-by-text`, { json });
}
