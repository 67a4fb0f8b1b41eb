/** A title as the workflow counts it: without white space at its ends, and with single spaces within. */
export function oneLine(text: string): string {
  return text.trim().split(/\s+/u).join(' ');
}

/** Characters, as the server and the workflow count them: code points. What is put together of several is several. */
export function length(text: string): number {
  return [...text].length;
}

export const SHORTEST = 5;
export const LONGEST = 30;
