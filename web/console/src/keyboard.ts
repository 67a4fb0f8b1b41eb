/** Keys that work everywhere, and those that a page adds while it is shown. None acts while text is typed. */

import { onScopeDispose, ref } from 'vue';
import { places } from './routes';
import { go, href } from './router';

type Handler = (event: KeyboardEvent) => void;

const handlers: Map<string, Handler>[] = [];
export const settingsShown = ref(false);
const LEADER_SECONDS = 1.5;
let leaderUntil = 0;

export function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}

addEventListener('keydown', (event) => {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.key !== 'Escape' && typing(event.target)) return;
  if (document.querySelector('dialog:modal')) return; // it has the keys, Escape too
  const led = event.timeStamp < leaderUntil; // when it was pressed, however late a busy page hears of it
  leaderUntil = 0;
  const place = led && places.find((item) => item.key === event.key);
  if (place) go(href(place.path));
  else if (event.key === 'g') leaderUntil = event.timeStamp + LEADER_SECONDS * 1000;
  else if (event.key === '?') settingsShown.value = true;
  else {
    const handler = handlers.findLast((keys) => keys.has(event.key))?.get(event.key);
    if (!handler) return;
    handler(event);
  }
  event.preventDefault();
});

/** Keys of a component, as long as it is there. Those that were added last come first. */
export function useKeys(keys: Record<string, Handler>): void {
  const own = new Map(Object.entries(keys));
  handlers.push(own);
  onScopeDispose(() => handlers.splice(handlers.indexOf(own), 1));
}
