/** Of many rows of one height, those in view: the rest is two empty rows as tall as what they stand for. */

import { computed, onMounted, onScopeDispose, ref, type Ref } from 'vue';

const FEW = 60; // rows that may all be in the page
const BEYOND = 10; // rows above and below the view
const STEP = 10; // rows come and go so many at a time, not with each turn of the wheel

export function useVirtualRows(count: () => number, body: Readonly<Ref<HTMLElement | null>>) {
  const rowHeight = ref(36);
  const top = ref(0); // px of the table's body above the window
  const height = ref(innerHeight);
  let frame = 0;

  function measure(): void {
    frame = 0;
    if (!body.value) return;
    const row = body.value.querySelector<HTMLElement>('tr[data-row]');
    if (row) rowHeight.value = row.offsetHeight;
    top.value = -body.value.getBoundingClientRect().top;
    height.value = innerHeight;
  }
  const schedule = () => (frame ||= requestAnimationFrame(measure));

  onMounted(() => {
    measure();
    addEventListener('scroll', schedule, { passive: true });
    addEventListener('resize', schedule);
  });
  onScopeDispose(() => {
    cancelAnimationFrame(frame);
    removeEventListener('scroll', schedule);
    removeEventListener('resize', schedule);
  });

  return computed(() => {
    const all = count();
    if (all <= FEW) return { start: 0, end: all, before: 0, after: 0 };
    const clamp = (row: number) => Math.min(all, Math.max(0, row));
    const start = clamp(Math.floor(top.value / rowHeight.value / STEP) * STEP - BEYOND);
    const end = clamp(Math.ceil((top.value + height.value) / rowHeight.value / STEP) * STEP + BEYOND);
    return { start, end, before: start * rowHeight.value, after: (all - end) * rowHeight.value };
  });
}
