/** Routes below /console by the history API. Links are ordinary <a href>: a click on one changes the page in place. */

import { nextTick, shallowRef, triggerRef } from 'vue';

const BASE = import.meta.env.BASE_URL.replace(/\/$/, '');

export interface Location {
  path: string; // without the base: `/runs/7f3a`
  query: URLSearchParams;
}

/** As it is where it cannot be decoded: then it is the address of no page. */
function decoded(pathname: string): string {
  try {
    return decodeURI(pathname);
  } catch {
    return pathname;
  }
}

const read = (): Location => ({
  path: decoded(location.pathname).slice(BASE.length).replace(/\/$/, '') || '/',
  query: new URLSearchParams(location.search),
});

export const current = shallowRef<Location>(read());

/** The address of a page; parameters that are null, undefined or empty are left out. */
export function href(path: string, query: Record<string, string | number | null | undefined> = {}): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') params.set(name, String(value));
  }
  const text = params.toString();
  return BASE + encodeURI(path) + (text ? `?${text}` : '');
}

export function go(address: string, { replace = false } = {}): void {
  if (address === location.pathname + location.search) return;
  const before = current.value.path;
  history[replace ? 'replaceState' : 'pushState'](null, '', address);
  current.value = read();
  if (current.value.path !== before) void arrive();
}

/** Changes parameters of the page that is shown; null removes one. */
export function setQuery(changes: Record<string, string | number | null>, { replace = true } = {}): void {
  const merged: Record<string, string | number | null> = Object.fromEntries(current.value.query);
  go(href(current.value.path, { ...merged, ...changes }), { replace });
}

/** A new page begins at its top, and its heading is what a screen reader reads next. */
async function arrive(): Promise<void> {
  scrollTo(0, 0);
  await nextTick();
  document.getElementById('main')?.focus({ preventScroll: true });
}

addEventListener('popstate', () => {
  current.value = read();
  triggerRef(current);
});

document.addEventListener('click', (event) => {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
    return;
  const link = (event.target as Element).closest('a');
  if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
  if (!`${link.pathname}/`.startsWith(`${BASE}/`) || link.hash) return;
  event.preventDefault();
  go(link.pathname + link.search);
});
