/** What this browser keeps across a reload, as JSON. */

import { recall, remember } from '@ui/memory';

/** The stored value, unless there is none or it is not of this form. */
export function load<T>(name: string, isValid: (value: unknown) => value is T): T | null {
  try {
    const value: unknown = JSON.parse(recall(name) ?? 'null');
    return isValid(value) ? value : null;
  } catch {
    return null; // written by another version, or by hand
  }
}

export function store(name: string, value: unknown): void {
  remember(name, value === null ? null : JSON.stringify(value));
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
