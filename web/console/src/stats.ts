/** Sums of ended runs, by UTC days. */

import { call } from './api';

export interface StatsGroup {
  key: string;
  label: string;
  runs: number;
  failed: number;
  tokens: number;
  price: string | null;
  currency: string | null;
  p50: number | null;
  p95: number | null;
}
export interface Stats {
  data: StatsGroup[];
  total: StatsGroup;
}

/** The last days in UTC, as the server counts them, today the last. */
export function lastDays(count: number, now = Date.now()): string[] {
  return Array.from({ length: count }, (_, index) =>
    new Date(now - (count - 1 - index) * 86_400_000).toISOString().slice(0, 10),
  );
}

/** The sums of these days of all apps, or of one. */
export function loadStats(by: string, dates: string[], signal: AbortSignal, app?: string): Promise<Stats> {
  const query = { by, from: dates[0], to: dates.at(-1) };
  return call<Stats>('/stats', { query, headers: app ? { 'Headrace-App': app } : {}, signal });
}

export function everyDay(dates: string[], groups: StatsGroup[]): StatsGroup[] {
  const known = new Map(groups.map((group) => [group.key, group]));
  const none = { runs: 0, failed: 0, tokens: 0, price: '0', currency: null, p50: null, p95: null };
  return dates.map((date) => known.get(date) ?? { key: date, label: date, ...none });
}
