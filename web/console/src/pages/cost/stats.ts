/** What runs used and cost in a range of days, in all groupings that the page shows. */

import { csvHead, csvLine } from '../../csv';
import { everyDay, loadStats, type Stats, type StatsGroup } from '../../stats';

export const GROUPINGS = ['app', 'model', 'key', 'user'] as const;
export type Grouping = (typeof GROUPINGS)[number];
export const MEASURES = ['price', 'tokens', 'runs'] as const;
export type Measure = (typeof MEASURES)[number];

/** The apps that have a colour of their own in the chart, at most. */
const LARGEST_APPS = 3;

export interface Series {
  name: string; // '' for all other apps
  values: number[]; // one a day
  sum: number;
}

export interface Costs {
  days: StatsGroup[];
  total: StatsGroup;
  groups: Record<Grouping, StatsGroup[]>;
  series: Series[];
}

export const valueOf = (group: StatsGroup, measure: Measure): number => Number(group[measure] ?? 0);

export async function costsOf(dates: string[], measure: Measure, signal: AbortSignal): Promise<Costs> {
  const load = (by: string, app?: string): Promise<Stats> => loadStats(by, dates, signal, app);
  const [daily, ...grouped] = await Promise.all([load('day'), ...GROUPINGS.map((by) => load(by))]);
  const ranked = grouped.map(({ data }) => data.toSorted((a, b) => valueOf(b, measure) - valueOf(a, measure)));
  const [app, model, key, user] = ranked as [StatsGroup[], StatsGroup[], StatsGroup[], StatsGroup[]];

  const largest = app.slice(0, LARGEST_APPS).filter((group) => valueOf(group, measure));
  const byApp = await Promise.all(largest.map((group) => load('day', group.key)));
  const days = everyDay(dates, daily.data);
  const own = byApp.map((stats, index) => series(largest[index]!.label, everyDay(dates, stats.data), measure));
  const rest = days.map((day, at) =>
    Math.max(0, valueOf(day, measure) - own.reduce((sum, { values }) => sum + values[at]!, 0)),
  );
  const others = { name: '', values: rest, sum: total(rest) };
  const shown = app.length > largest.length && others.sum > 0 ? [...own, others] : own;
  return { days, total: daily.total, groups: { app, model, key, user }, series: shown };
}

const total = (values: number[]): number => values.reduce((sum, value) => sum + value, 0);

function series(name: string, days: StatsGroup[], measure: Measure): Series {
  const values = days.map((day) => valueOf(day, measure));
  return { name, values, sum: total(values) };
}

/** Lines of an axis from 0 to at least `highest`, at most six; where only whole numbers are shown, at those. */
export function ticksOf(highest: number, whole: boolean): number[] {
  if (highest <= 0) return [0];
  const rough = highest / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const fitting = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size * 5 >= highest * 0.999999)!;
  const step = whole ? Math.max(1, fitting) : fitting;
  const count = Math.ceil(highest / step - 0.000001);
  return Array.from({ length: count + 1 }, (_, index) => index * step);
}

/** All figures of the page. */
export function csvOf({ days, groups }: Costs): string {
  const columns = ['key', 'label', 'runs', 'failed', 'tokens', 'price', 'currency', 'p50', 'p95'] as const;
  const rows = Object.entries({ day: days, ...groups }).flatMap(([by, list]) =>
    list.map((group) => csvLine([by, ...columns.map((column) => group[column])])),
  );
  return [csvHead(['by', ...columns]), ...rows].join('');
}
