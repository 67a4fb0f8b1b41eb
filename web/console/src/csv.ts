/** Lines of a CSV file (RFC 4180). A text that a spreadsheet would take for a formula begins with an apostrophe. */

export type Cell = string | number | null | undefined;

function cell(value: Cell): string {
  const text = String(value ?? '');
  const plain = typeof value === 'string' && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

export const csvLine = (cells: Cell[]): string => `${cells.map(cell).join(',')}\r\n`;

/** The first line of a file; without the mark before it, Excel does not read the file as UTF-8. */
export const csvHead = (names: readonly string[]): string => `\uFEFF${csvLine([...names])}`;
