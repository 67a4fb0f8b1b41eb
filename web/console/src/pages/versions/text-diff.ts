/** What changed in a text, by line, and within a line that replaces another. */

export interface DiffLine {
  sign: '+' | '−' | ' ';
  text: string;
  /** Where the characters begin and end that the line it replaces, or that replaces it, does not have. */
  mark?: [number, number];
}

const CONTEXT = 2; // unchanged lines around a change
const LARGEST = 1_000_000; // pairs of lines to compare; above it, all lines in between count as replaced

const lines = (sign: DiffLine['sign'], texts: string[]): DiffLine[] => texts.map((text) => ({ sign, text }));

export function textDiff(before: string, after: string): DiffLine[] {
  const [head, [old, now], tail] = trimmed(before.split('\n'), after.split('\n'));
  const middle =
    old.length * now.length > LARGEST ? [...lines('−', old), ...lines('+', now)] : longestCommon(old, now);
  return shortened([...lines(' ', head), ...marked(middle), ...lines(' ', tail)]);
}

/** [what both begin with, what is between in each, what both end with] */
function trimmed<T>(a: T[], b: T[]): [T[], [T[], T[]], T[]] {
  const shorter = Math.min(a.length, b.length);
  let start = 0;
  while (start < shorter && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < shorter - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  return [a.slice(0, start), [a.slice(start, a.length - end), b.slice(start, b.length - end)], a.slice(a.length - end)];
}

function longestCommon(a: string[], b: string[]): DiffLine[] {
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width); // of the longest sequence common to the rests
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const at = i * width + j;
      lengths[at] =
        a[i] === b[j] ? lengths[at + width + 1]! + 1 : Math.max(lengths[at + width]!, lengths[at + 1]!);
    }
  }
  const result: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    const at = i * width + j;
    if (i < a.length && j < b.length && a[i] === b[j]) {
      result.push({ sign: ' ', text: a[i++]! });
      j += 1;
    } else if (j === b.length || (i < a.length && lengths[at + width]! >= lengths[at + 1]!)) {
      result.push({ sign: '−', text: a[i++]! });
    } else {
      result.push({ sign: '+', text: b[j++]! });
    }
  }
  return result;
}

/** As many lines removed as added after them: each replaces one. */
function marked(all: DiffLine[]): DiffLine[] {
  for (let at = 0; at < all.length; at += 1) {
    const ends = (from: number, sign: string): number => {
      let end = from;
      while (all[end]?.sign === sign) end += 1;
      return end;
    };
    const removed = ends(at, '−');
    const added = ends(removed, '+');
    const count = removed - at;
    if (count && added - removed === count) {
      for (let k = 0; k < count; k += 1) markPair(all[at + k]!, all[removed + k]!);
    }
    at = Math.max(at, added - 1);
  }
  return all;
}

/** Words of letters that are written without a gap count each. */
const words = (text: string): string[] => text.match(/[\p{Script=Latin}\p{N}_]+|./gsu) ?? [];

function markPair(old: DiffLine, now: DiffLine): void {
  const [head, [a, b]] = trimmed(words(old.text), words(now.text));
  const start = head.join('').length;
  if (!start && a.join('') === old.text) return; // nothing in common
  old.mark = [start, start + a.join('').length];
  now.mark = [start, start + b.join('').length];
}

function shortened(all: DiffLine[]): DiffLine[] {
  const near = new Set<number>();
  all.forEach(({ sign }, at) => {
    if (sign !== ' ') for (let k = at - CONTEXT; k <= at + CONTEXT; k += 1) near.add(k);
  });
  return all.flatMap((line, at) =>
    near.has(at) ? [line] : at === 0 || near.has(at - 1) ? [{ sign: ' ' as const, text: '…' }] : [],
  );
}
