import { language } from '@ui/language';
import { t } from './messages';

/** A time as somebody would say it: today 19:35, yesterday 19:35, else the date. */
export function when(time: string): string {
  const date = new Date(time);
  const midnight = new Date().setHours(0, 0, 0, 0);
  const days = Math.round((midnight - new Date(time).setHours(0, 0, 0, 0)) / 86_400_000);
  if (days > 1) return date.toLocaleDateString(language.value, { dateStyle: 'medium' });
  const clock = date.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
  return days === 1 ? t.value.yesterday(clock) : t.value.today(clock);
}
