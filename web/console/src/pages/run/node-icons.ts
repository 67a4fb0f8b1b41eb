import type { IconName } from '@ui/icons';

/** The family of a node's type is its icon, never a colour. */
const ICONS: Record<string, IconName> = {
  start: 'start',
  'iteration-start': 'start',
  'loop-start': 'start',
  'loop-end': 'end',
  end: 'end',
  answer: 'chat',
  llm: 'llm',
  'question-classifier': 'if-else',
  'parameter-extractor': 'llm',
  agent: 'llm',
  'if-else': 'if-else',
  code: 'code',
  'template-transform': 'template-transform',
  'variable-aggregator': 'variable-aggregator',
  'variable-assigner': 'edit',
  assigner: 'edit',
  'http-request': 'http-request',
  iteration: 'iteration',
  loop: 'iteration',
  'knowledge-retrieval': 'book',
  'document-extractor': 'book',
  'list-operator': 'runs',
  'human-input': 'person',
};

export const iconOf = (type: string): IconName => ICONS[type] ?? 'tool';
