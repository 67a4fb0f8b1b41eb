/**
 * What a tab keeps, as JSON: over a reload in the session's storage, which no other tab has. One of the open tabs also
 * keeps it for a later visit.
 */

import { recall, remember } from '@ui/memory';

const KEEPER = 'studio-keeper';
let keepsForLater = true;

/** Two tabs must not write each other's draft: the first one that is open holds a lock, as long as it is there. */
export async function chooseTab(): Promise<void> {
  // browsers have locks only where the page is local or came by HTTPS
  const locks = navigator.locks as LockManager | undefined;
  if (!locks) return;
  const wasKeeper = sessionText(KEEPER) !== null; // when the page is loaded again, its own lock may not be free yet
  const granted = new Promise<boolean>((resolve) => {
    void locks.request('studio', { ifAvailable: !wasKeeper }, (lock) => {
      resolve(lock !== null);
      return lock && new Promise(() => undefined);
    });
  });
  keepsForLater = wasKeeper || (await granted);
  if (keepsForLater) storeInSession(KEEPER, 'true');
}

/** The stored value, unless there is none or it is not of this form. */
export function load<T>(name: string, isValid: (value: unknown) => value is T): T | null {
  for (const text of [sessionText(name), keepsForLater ? recall(name) : null]) {
    try {
      const value: unknown = JSON.parse(text ?? 'null');
      if (isValid(value)) return value;
    } catch {
      // written by another version, or by hand
    }
  }
  return null;
}

export function store(name: string, value: unknown): void {
  const text = value === null ? null : JSON.stringify(value);
  if (keepsForLater) remember(name, text);
  storeInSession(name, text);
}

function storeInSession(name: string, text: string | null): void {
  try {
    if (text === null) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, text);
  } catch {
    // nothing is stored, and the page works without it
  }
}

function sessionText(name: string): string | null {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
