import { reactive } from 'vue';

export interface Toast {
  id: number;
  text: string;
  action?: { label: string; run: () => void };
}

export const toasts = reactive<Toast[]>([]);
let next = 0;

/** Shows a line at the foot of the page for 8 seconds; a second one takes the place of the first. */
export function toast(text: string, action?: Toast['action']): void {
  toasts.splice(0, toasts.length, { id: next++, text, action });
}

export function dismiss(id: number): void {
  const index = toasts.findIndex((item) => item.id === id);
  if (index >= 0) toasts.splice(index, 1);
}
