/** A title as the workflow counts it: without white space at its ends, and with single spaces within. */
export function oneLine(text: string): string {
  return text.trim().split(/\s+/u).join(' ');
}

/** Characters, as the server counts them: not bytes, and an emoji is one although it is two units of UTF-16. */
export function length(text: string): number {
  return [...text].length;
}

export const SHORTEST = 5;
export const LONGEST = 30;
