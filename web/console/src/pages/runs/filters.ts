/** The filters of the list, which are in the address, and whether a run passes them. */

import { computed } from 'vue';
import { stateOf, type RunLine, type RunStatus } from '../../model';
import { current } from '../../router';

export const STATUSES = ['running', 'paused', 'failed', 'partial-succeeded', 'succeeded', 'stopped'] as const;
export const TIMES = { '1h': 3600, '24h': 86_400, '7d': 604_800 } as const;
export type Time = keyof typeof TIMES;

export interface Filters {
  status: RunStatus | '';
  app: string;
  source: string;
  user: string;
  version: string;
  time: Time | '';
  day: string; // a date in UTC
  q: string;
}

export const filters = computed<Filters>(() => {
  const { query } = current.value;
  const of = (name: string): string => query.get(name) ?? '';
  const time = of('time');
  const day = of('day');
  return {
    status: STATUSES.find((status) => status === of('status')) ?? '',
    app: of('app'),
    source: of('source'),
    user: of('user'),
    version: of('version'),
    time: time in TIMES ? (time as Time) : '',
    day: /^\d{4}-\d\d-\d\d$/.test(day) && Date.parse(day) ? day : '',
    q: of('q'),
  };
});

export const filtered = computed(() => Object.values(filters.value).some((value) => value !== ''));

const DAY = 86_400; // seconds
const LINE_FIELDS = 'app,version,cost,error_node,input';

export function queryOf(by: Filters): Record<string, string | number> {
  const day = by.day && Date.parse(by.day) / 1000;
  return {
    status: by.status,
    app_id: by.app,
    source: by.source,
    user: by.user,
    workflow_id: by.version,
    keyword: by.q,
    created_after: by.time ? Math.floor(Date.now() / 1000) - TIMES[by.time] : day,
    created_before: day && day + DAY,
    include: LINE_FIELDS,
    limit: 100,
  };
}

/** Whether the list would have a run that the stream has just brought. A search also looks into what a line lacks, so
 * that only the server can say which runs it finds. */
export function passes(run: RunLine, by: Filters): boolean {
  return (
    !by.q &&
    (!by.status || stateOf(run.status) === stateOf(by.status)) &&
    (!by.app || run.app_id === by.app) &&
    (!by.version || run.workflow_id === by.version) &&
    (!by.day || new Date(run.created_at_ms).toISOString().startsWith(by.day)) &&
    (!by.source || run.source === by.source) &&
    (!by.user || run.user === by.user)
  );
}
