/**
 * A graph in its canvas: it fits until somebody zooms, by buttons or by Ctrl with the wheel; the canvas is moved by
 * dragging it. What is under the pointer stays.
 */

import { computed, nextTick, onMounted, onScopeDispose, ref, type Ref } from 'vue';
import type { Graph } from '../../model';
import { draw, fit, placed } from './graph-layout';

const SMALLEST = 0.15;
const LARGEST = 1.6;

export function useGraphView(canvas: Readonly<Ref<HTMLElement | null>>, graph: () => Graph) {
  const canvasWidth = ref(900);
  const zoom = ref<number | null>(null); // null: fits
  const places = computed(() => placed(graph()));
  const fitted = computed(() => fit(places.value, canvasWidth.value));
  const scale = computed(() => zoom.value ?? fitted.value);
  const drawing = computed(() => draw(places.value, scale.value));

  const resized = new ResizeObserver(([entry]) => (canvasWidth.value = Math.floor(entry!.contentRect.width)));
  onMounted(() => resized.observe(canvas.value!));
  onScopeDispose(() => resized.disconnect());

  async function setZoom(value: number, at?: { x: number; y: number }): Promise<void> {
    const element = canvas.value;
    if (!element) return;
    const { x, y } = at ?? { x: element.clientWidth / 2, y: element.clientHeight / 2 };
    const before = { width: element.scrollWidth, height: element.scrollHeight };
    const left = (element.scrollLeft + x) / before.width;
    const top = (element.scrollTop + y) / before.height;
    zoom.value = Math.min(LARGEST, Math.max(SMALLEST, value));
    await nextTick();
    element.scrollLeft = left * element.scrollWidth - x;
    element.scrollTop = top * element.scrollHeight - y;
  }

  function onWheel(event: WheelEvent): void {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const { left, top } = canvas.value!.getBoundingClientRect();
    const factor = Math.exp(-event.deltaY / 400);
    void setZoom(scale.value * factor, { x: event.clientX - left, y: event.clientY - top });
  }

  function onPointerDown(event: PointerEvent): void {
    const element = canvas.value!;
    // touch scrolls by itself, and a button under the pointer is for a click
    if (event.pointerType === 'touch' || event.button || (event.target as Element).closest('.nd, .nc')) return;
    const start = { x: event.clientX, y: event.clientY, left: element.scrollLeft, top: element.scrollTop };
    const move = (now: PointerEvent) => {
      element.classList.add('dragged');
      element.scrollLeft = start.left - (now.clientX - start.x);
      element.scrollTop = start.top - (now.clientY - start.y);
    };
    const end = () => {
      removeEventListener('pointermove', move);
      element.classList.remove('dragged');
    };
    addEventListener('pointermove', move);
    addEventListener('pointerup', end, { once: true });
    addEventListener('pointercancel', end, { once: true });
  }

  return { zoom, scale, drawing, setZoom, onWheel, onPointerDown };
}
