/** Keys of the workspace and the record of their changes, as the API returns them. */

export const PERMISSIONS = ['run', 'read', 'manage'] as const;
/** A knowledge key has this one alone: it opens all knowledge bases of the workspace, and no app. */
export const KNOWLEDGE = 'knowledge';
export type Permission = (typeof PERMISSIONS)[number] | typeof KNOWLEDGE;

export interface Key {
  id: string;
  prefix: string;
  name: string;
  permissions: Permission[];
  apps: string[] | null; // null: all of the workspace
  app: string | null; // of an app's own key
  replaced_by: string | null;
  created_at: number;
  expires_at: number | null;
  revoked_at: number | null;
  last_used_at: number | null;
}

export interface NewKey extends Key {
  key: string;
}

export interface KeyChange {
  id: string;
  action: 'created' | 'rotated' | 'revoked';
  by: string;
  key_id: string;
  about: { name?: string; prefix?: string };
  at: number;
}

export const DAY = 86_400; // seconds

export type KeyState = 'valid' | 'rotated' | 'expired' | 'revoked';

/** A key that was rotated is valid until its end, but cannot be rotated again. */
export function keyState(key: Key, now: number): KeyState {
  if (key.revoked_at !== null) return 'revoked';
  if (key.expires_at !== null && key.expires_at <= now) return 'expired';
  return key.replaced_by === null ? 'valid' : 'rotated';
}

/** What a key is called where it has no name. */
export const labelOf = (key: { name?: string; prefix?: string }): string => key.name || `${key.prefix}…`;
