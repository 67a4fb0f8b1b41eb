/** A workflow file that is dropped anywhere on a page of an app leads to the page that checks it for that app. */

import { onMounted, onScopeDispose, shallowRef } from 'vue';
import { go, href } from './router';

export const dropped = shallowRef<File>();

const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false;

export function openDropped(event: DragEvent, app: string): void {
  if (!hasFiles(event)) return;
  event.preventDefault(); // the browser would leave the page, and show the file
  const file = event.dataTransfer!.files[0];
  if (!file || !/\.(ya?ml|zip)$/i.test(file.name)) return;
  dropped.value = file;
  go(href(`/apps/${app}/versions/new`));
}

export function useDroppedFile(app: () => string): void {
  const allow = (event: DragEvent) => hasFiles(event) && event.preventDefault();
  const drop = (event: DragEvent) => event.defaultPrevented || openDropped(event, app());
  onMounted(() => {
    addEventListener('dragover', allow);
    addEventListener('drop', drop);
  });
  onScopeDispose(() => {
    removeEventListener('dragover', allow);
    removeEventListener('drop', drop);
  });
}
