/** Times, amounts and dates, as short as they can be read. */

import { computed } from 'vue';
import { language } from './language';

const units = {
  en: { ms: 'ms', s: 's', min: 'min', h: 'h', d: 'd', today: 'today', yesterday: 'yesterday' },
  'zh-Hant': { ms: '毫秒', s: '秒', min: '分', h: '小時', d: '天', today: '今天', yesterday: '昨天' },
  'zh-Hans': { ms: '毫秒', s: '秒', min: '分', h: '小时', d: '天', today: '今天', yesterday: '昨天' },
};
const unit = computed(() => units[language.value]);

const NONE = '—';

/** `<1 ms`, `38 ms`, `5.8 s`, `4 min 10 s`, `2 h 14 min`, `3 d 4 h` */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return NONE;
  const { ms, s, min, h, d } = unit.value;
  if (seconds > 0 && seconds < 0.0005) return `<1 ${ms}`;
  if (seconds < 0.0995) return `${Math.max(0, Math.round(seconds * 1000))} ${ms}`;
  if (seconds < 9.95) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} ${s}`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${seconds < 59.95 ? seconds.toFixed(1) : whole} ${s}`;
  if (whole < 3600) return `${Math.floor(whole / 60)} ${min} ${whole % 60} ${s}`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} ${h} ${Math.floor((whole % 3600) / 60)} ${min}`;
  return `${Math.floor(whole / 86_400)} ${d} ${Math.floor((whole % 86_400) / 3600)} ${h}`;
}

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : value.toLocaleString('en-US');
}

const SYMBOLS: Record<string, string> = { USD: '$', EUR: '€', GBP: '£', RMB: '¥', CNY: '¥', TWD: 'NT$' };

/** Two digits that matter, and at least cents: `$0`, `$0.00012`, `$0.05`, `$12.40`. */
export function money(price: number | string | null | undefined, currency: string | null | undefined): string {
  if (price === null || price === undefined) return NONE;
  const amount = Number(price);
  const symbol = SYMBOLS[currency ?? 'USD'] ?? `${currency} `;
  if (!amount) return `${symbol}0`;
  const digits = Math.abs(amount) >= 0.095 ? 2 : Math.min(8, 1 - Math.floor(Math.log10(Math.abs(amount))));
  const text = amount.toFixed(digits).replace(/(\.\d\d\d*?)0+$/, '$1');
  return symbol + text;
}

const clock = (date: Date): string => date.toLocaleTimeString('en-GB');

function daysAgo(date: Date): number {
  const midnight = (value: Date) => new Date(value.getFullYear(), value.getMonth(), value.getDate()).getTime();
  return Math.round((midnight(new Date()) - midnight(date)) / 86_400_000);
}

/** The clock alone for today, else the date and the clock without seconds. `seconds` since 1970. */
export function when(seconds: number | null | undefined, withDay = false): string {
  if (seconds === null || seconds === undefined) return NONE;
  const date = new Date(seconds * 1000);
  const days = daysAgo(date);
  if (days === 0) return withDay ? `${unit.value.today} ${clock(date)}` : clock(date);
  if (days === 1) return `${unit.value.yesterday} ${clock(date).slice(0, 5)}`;
  const pad = (value: number) => String(value).padStart(2, '0');
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(date).slice(0, 5)}`;
}

/** `840 B`, `21 kB`, `3.2 MB` */
export function bytes(size: number): string {
  if (size < 1000) return `${size} B`;
  if (size < 1_000_000) return `${Math.round(size / 1000)} kB`;
  return `${(size / 1_000_000).toFixed(1)} MB`;
}
