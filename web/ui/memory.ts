/** Choices that this browser keeps. Where storage is forbidden, they last as long as the page. */

export function recall(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function remember(name: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // nothing is stored, and the page works without it
  }
}

export function recallOneOf<T extends string>(name: string, known: readonly T[]): T | undefined {
  const value = recall(name);
  return known.find((item) => item === value);
}
