/** The bars of a step in the waterfall, in percent of the run's time. */

import { isOpen, type Execution } from '../../model';

export interface Bar {
  kind: '' | 'f' | 'r' | 'q' | 'ft' | 'p';
  left: number;
  width: number;
}

export interface Lane {
  label: string | null; // of an attempt
  bars: Bar[];
  seconds: number | null;
}

export interface Span {
  start: number; // ms
  end: number;
}

const firstTokenOf = (execution: Execution): number | null => {
  if (execution.first_token !== undefined) return execution.first_token;
  const usage = execution.process_data?.usage as { time_to_first_token?: number } | undefined;
  return usage?.time_to_first_token ?? null;
};

export function lanes(execution: Execution, span: Span, now: number, attemptName: (number: number) => string): Lane[] {
  const share = (ms: number) => (100 * (ms - span.start)) / Math.max(1, span.end - span.start);
  const bar = (kind: Bar['kind'], from: number, to: number): Bar => ({
    kind,
    left: Math.max(0, share(from)),
    width: Math.max(0, share(to) - Math.max(0, share(from))),
  });
  const from = execution.started_at_ms;
  const to = execution.finished_at_ms ?? now;
  const ended = execution.status === 'failed' ? 'f' : isOpen(execution.status) ? 'r' : '';
  const { attempts } = execution;
  if (!attempts.length) {
    const token = firstTokenOf(execution);
    const first = token === null ? from : Math.min(to, from + token * 1000);
    const bars = first > from ? [bar('ft', from, first), bar(ended, first, to)] : [bar(ended, from, to)];
    return [{ label: null, bars, seconds: execution.elapsed_time }];
  }
  // records have when an attempt ended; the pause before the next one belongs to it
  const own: Lane[] = [{ label: null, bars: [bar('p', from, to)], seconds: execution.elapsed_time }];
  let begin = from;
  for (const [index, attempt] of attempts.entries()) {
    own.push({
      label: attemptName(index + 1),
      bars: [bar('f', begin, attempt.finished_at_ms)],
      seconds: (attempt.finished_at_ms - begin) / 1000,
    });
    begin = attempt.finished_at_ms;
  }
  own.push({ label: attemptName(attempts.length + 1), bars: [bar(ended, begin, to)], seconds: (to - begin) / 1000 });
  return own;
}

/** About six marks of round numbers of seconds, and the end. */
export function axis(span: Span): number[] {
  const seconds = (span.end - span.start) / 1000;
  return Array.from({ length: 7 }, (_, index) => (seconds * index) / 6);
}
