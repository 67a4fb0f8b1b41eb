/** Zoom by buttons and by Ctrl with the wheel, and moving the canvas by dragging it; what is under the pointer stays. */

import { nextTick, type Ref } from 'vue';

const SMALLEST = 0.15;
const LARGEST = 1.6;

export function useGraphMotion(
  canvas: Readonly<Ref<HTMLElement | null>>,
  scale: Ref<number>,
  zoom: Ref<number | null>,
) {
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

  return { setZoom, onWheel, onPointerDown };
}
