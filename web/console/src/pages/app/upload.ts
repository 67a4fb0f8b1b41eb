import { address, refusal, SESSION_HEADER, unreachable } from '../../api';
import type { Uploaded } from './values';

const KINDS: [RegExp, string][] = [
  [/^image\//, 'image'],
  [/^audio\//, 'audio'],
  [/^video\//, 'video'],
];
const kindOf = (file: File): string => KINDS.find(([pattern]) => pattern.test(file.type))?.[1] ?? 'document';

/** Uploads a file for an app. By XMLHttpRequest, since fetch does not say how far it has come. */
export function upload(app: string, user: string, file: File, onProgress: (share: number) => void): Promise<Uploaded> {
  const body = new FormData();
  body.set('user', user);
  body.set('file', file);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', address(`/apps/${app}/v1/files/upload`));
    for (const [name, value] of Object.entries(SESSION_HEADER)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(unreachable());
    request.onload = () => {
      const { status, responseText } = request;
      if (status >= 300) return reject(refusal(status, responseText));
      const { id } = JSON.parse(responseText) as { id: string };
      resolve({ id, name: file.name, type: kindOf(file) });
    };
    request.send(body);
  });
}
