/** Signing in: the link that `headrace serve` prints has a token, which is exchanged for a cookie. */

import { ref } from 'vue';
import { ApiError, call, signedIn } from './api';
import { go } from './router';

interface Meta {
  version: string;
  models: 'demo' | 'configured';
  storage: string;
  workers: number;
  features: string[];
}

type Permission = 'run' | 'read' | 'manage';

const PAGE = 'console-page';

export const meta = ref<Meta | null>(null);
const permissions = ref<readonly string[]>([]);

/** Whether the API lets this session do so; what it refuses anyway need not be offered. */
export const may = (permission: Permission): boolean => permissions.value.includes(permission);

export async function signIn(token: string): Promise<void> {
  await call('/console/session', { json: { token } });
  await enter();
}

async function enter(): Promise<void> {
  permissions.value = (await call<{ permissions: string[] }>('/console/session')).permissions;
  const page = sessionStorage.getItem(PAGE);
  sessionStorage.removeItem(PAGE);
  if (page) go(page, { replace: true });
  signedIn.value = true;
  meta.value = await call<Meta>('/meta');
}

/** The identity provider leads back to the first page: this tab keeps the one that it is to show then. */
export function keepPage(): void {
  if (!signInFailed()) sessionStorage.setItem(PAGE, location.pathname + location.search);
}

/** Whether the identity provider has led back here without a session. */
export const signInFailed = (): boolean => new URLSearchParams(location.search).get('sign-in') === 'failed';

export async function signOut(): Promise<void> {
  await call('/console/session', { method: 'DELETE' });
  signedIn.value = false;
}

/** The token is taken out of the address before anything else, so that it stays in no history. */
export async function start(): Promise<void> {
  const token = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (token) history.replaceState(null, '', location.pathname + location.search);
  try {
    if (token) await signIn(decodeURIComponent(token));
    else await enter();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (signedIn.value === null) signedIn.value = false;
  }
}
