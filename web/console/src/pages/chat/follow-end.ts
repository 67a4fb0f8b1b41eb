/** Keeps the end of the page in view while it grows, unless the reader has scrolled away from it. */

import { nextTick, onScopeDispose, watch } from 'vue';

const NEAR = 80; // px

export function useFollowEnd(growth: () => unknown[]): { toEnd: () => void } {
  let atEnd = true;
  const note = () => (atEnd = document.documentElement.scrollHeight - innerHeight - scrollY < NEAR);
  addEventListener('scroll', note, { passive: true });
  onScopeDispose(() => removeEventListener('scroll', note));

  const follow = () => atEnd && scrollTo(0, document.documentElement.scrollHeight);
  watch(growth, () => void nextTick(follow));
  return { toEnd: () => (atEnd = true) };
}
