import type { ComputedRef, InjectionKey } from 'vue';

export interface Found {
  count: number;
  words: string;
  /** Paths of the values that must be unfolded to see what was found. */
  open: Set<string>;
}

export const FOUND: InjectionKey<ComputedRef<Found | null>> = Symbol('found');

export const entriesOf = (value: object): [string, unknown][] => Object.entries(value);
export const pathOf = (path: string, key: string): string => `${path}/${key}`;

/** Where keys and plain values contain the words, whatever their case. */
export function matches(value: unknown, words: string): Found {
  const found: Found = { count: 0, words, open: new Set() };
  const wanted = words.toLowerCase();
  function visit(item: unknown, path: string): boolean {
    if (item === null || typeof item !== 'object') return hit(String(item));
    let within = false;
    for (const [key, child] of entriesOf(item)) {
      const named = !Array.isArray(item) && hit(key);
      within = visit(child, pathOf(path, key)) || named || within;
    }
    if (within) found.open.add(path);
    return within;
  }
  function hit(text: string): boolean {
    const matched = text.toLowerCase().includes(wanted);
    if (matched) found.count += 1;
    return matched;
  }
  visit(value, '$');
  return found;
}
