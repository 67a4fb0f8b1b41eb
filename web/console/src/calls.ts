/** Calls of an app by its clients, as they are pasted into a terminal or a program. None contains a key. */

import type { AppMode, FormInput } from './model';

export const CALL_LANGUAGES = ['curl', 'Python', 'TypeScript'] as const;
export type CallLanguage = (typeof CALL_LANGUAGES)[number];

export interface AppCall {
  mode: AppMode;
  inputs: Record<string, unknown>;
  query?: string;
  user?: string;
}

const isChat = (mode: AppMode): boolean => mode === 'advanced-chat' || mode === 'chat' || mode === 'agent-chat';

const pathOf = (mode: AppMode): string =>
  isChat(mode) ? '/v1/chat-messages' : mode === 'completion' ? '/v1/completion-messages' : '/v1/workflows/run';

function bodyOf({ mode, inputs, query, user = 'me' }: AppCall): Record<string, unknown> {
  return { inputs, ...(isChat(mode) ? { query: query ?? 'Hello' } : {}), response_mode: 'streaming', user };
}

/** A text in single quotes for a POSIX shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

const python = (value: unknown): string =>
  JSON.stringify(value, null, 4).replace(
    /("(?:[^"\\]|\\.)*")|\b(true|false|null)\b/g,
    (_, text?: string, word?: string) => text ?? { true: 'True', false: 'False', null: 'None' }[word!]!,
  );

export function code(call: AppCall, language: CallLanguage, origin = location.origin): string {
  const url = origin + pathOf(call.mode);
  const body = bodyOf(call);
  if (language === 'curl') {
    return [
      `curl -N ${url} \\`,
      '  -H "Authorization: Bearer $HEADRACE_KEY" -H "Content-Type: application/json" \\',
      `  -d ${quoted(JSON.stringify(body))}`,
    ].join('\n');
  }
  if (language === 'Python') {
    return [
      'import os',
      '',
      'import httpx',
      '',
      `headers = {"Authorization": f"Bearer {os.environ['HEADRACE_KEY']}"}`,
      `body = ${python(body)}`,
      `with httpx.stream("POST", "${url}", headers=headers, json=body, timeout=None) as response:`,
      '    for line in response.iter_lines():',
      '        print(line)',
    ].join('\n');
  }
  return [
    `const response = await fetch('${url}', {`,
    `  method: 'POST',`,
    '  headers: { Authorization: `Bearer ${process.env.HEADRACE_KEY}`, ' + `'Content-Type': 'application/json' },`,
    `  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll('\n', '\n  ')}),`,
    '});',
    `for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) console.log(chunk);`,
  ].join('\n');
}

/** Inputs that an example call has: the form's defaults, else something of the right type. */
export function exampleInputs(inputs: FormInput[]): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const input of inputs) {
    if (input.type.startsWith('file')) continue;
    if (input.default !== undefined && input.default !== null && input.default !== '')
      values[input.name] = input.default;
    else if (input.type === 'number') values[input.name] = 1;
    else if (input.type === 'checkbox') values[input.name] = false;
    else if (input.type === 'json_object') values[input.name] = {};
    else values[input.name] = input.options?.[0] ?? '…';
  }
  return values;
}
