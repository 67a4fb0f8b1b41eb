/** What this browser remembers of choices. Where storage is forbidden, choices last as long as the page. */

export function remembered<T extends string>(name: string, known: readonly T[]): T | undefined {
  try {
    const value = localStorage.getItem(name);
    return known.find((each) => each === value);
  } catch {
    return undefined;
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // it is not remembered, and nothing else is amiss
  }
}
