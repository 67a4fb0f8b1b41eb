/** What is written and not sent yet. The tab keeps it, also while a message is being sent: the session may have ended. */

import { ref, watch } from 'vue';
import type { Uploaded } from '../app/values';

interface Draft {
  text: string;
  files: Uploaded[];
}

export function useDraft(app: string) {
  const key = `chat:${app}`;
  const kept = JSON.parse(sessionStorage.getItem(key) ?? 'null') as Draft | null;
  const text = ref(kept?.text ?? '');
  const files = ref<Uploaded[]>(kept?.files ?? []);
  let sending = false;

  function keep(): void {
    if (text.value || files.value.length) {
      sessionStorage.setItem(key, JSON.stringify({ text: text.value, files: files.value }));
    } else if (!sending) sessionStorage.removeItem(key);
  }
  watch([text, files], keep, { flush: 'sync' });

  /** The message, of which the fields are empty now. */
  function take(): Draft {
    const message = { text: text.value.trim(), files: files.value };
    sending = true;
    files.value = [];
    text.value = '';
    sessionStorage.setItem(key, JSON.stringify(message));
    return message;
  }

  function sent(): void {
    sending = false;
    keep();
  }

  function putBack(message: Draft): void {
    sending = false;
    text.value ||= message.text;
    files.value = message.files;
  }

  return { text, files, take, sent, putBack };
}
