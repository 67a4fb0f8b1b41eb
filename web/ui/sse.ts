/** Server-sent events over fetch, since EventSource cannot send headers. A lost connection is resumed after its last id. */

export interface ServerEvent {
  id: string;
  event: string;
  data: string;
}

export type Connection = 'connecting' | 'open' | 'reconnecting';

export interface StreamOptions {
  signal: AbortSignal;
  headers?: Record<string, string>;
  lastEventId?: string;
  onConnection?: (connection: Connection) => void;
}

/** The server's answer is a refusal, which asking again would not change. */
export class StreamRefused extends Error {
  constructor(
    readonly status: number,
    readonly body: string,
  ) {
    super(`HTTP ${status}`);
  }
}

const FIRST_PAUSE = 500; // ms
const LONGEST_PAUSE = 10_000;
const SILENCE = 45_000; // the server sends a ping every 10 s: without one, the connection is dead

/** Yields events until the caller breaks out of the loop or aborts. Both the end of a response and its loss reconnect. */
export async function* serverEvents(url: string, options: StreamOptions): AsyncGenerator<ServerEvent, void> {
  const { signal } = options;
  let lastId = options.lastEventId ?? '';
  let pause = FIRST_PAUSE;
  options.onConnection?.('connecting');
  while (!signal.aborted) {
    const connection = new AbortController();
    const abort = () => connection.abort();
    signal.addEventListener('abort', abort);
    try {
      for await (const event of connect(url, lastId, options, connection)) {
        pause = FIRST_PAUSE;
        if (event.id) lastId = event.id;
        if (event.data) yield event;
      }
    } catch (error) {
      if (error instanceof StreamRefused) throw error;
      // anything else is a lost connection
    } finally {
      signal.removeEventListener('abort', abort);
      connection.abort();
    }
    if (signal.aborted) return;
    options.onConnection?.('reconnecting');
    await pauseFor(pause * (0.75 + Math.random() / 2), signal);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

const RETRIED = new Set([408, 425, 429]);

async function* connect(
  url: string,
  lastId: string,
  options: StreamOptions,
  connection: AbortController,
): AsyncGenerator<ServerEvent> {
  const headers: Record<string, string> = { ...options.headers, Accept: 'text/event-stream; ids=true' };
  if (lastId) headers['Last-Event-ID'] = lastId;
  const silence = setTimeout(() => connection.abort(), SILENCE);
  let response: Response;
  try {
    response = await fetch(url, { headers, signal: connection.signal, cache: 'no-store' });
  } finally {
    clearTimeout(silence);
  }
  const refused = response.status >= 400 && response.status < 500 && !RETRIED.has(response.status);
  if (refused) throw new StreamRefused(response.status, await response.text());
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  options.onConnection?.('open');
  yield* eventsOf(response, connection);
}

/** The events of one response. A connection that falls silent is aborted. */
export async function* eventsOf(response: Response, connection: AbortController): AsyncGenerator<ServerEvent> {
  if (!response.body) return;
  let silence = setTimeout(() => connection.abort(), SILENCE);
  try {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => connection.abort(), SILENCE);
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop() ?? '';
      for (const block of blocks) yield parse(block);
    }
  } finally {
    clearTimeout(silence);
  }
}

function parse(block: string): ServerEvent {
  const event: ServerEvent = { id: '', event: 'message', data: '' };
  const data: string[] = [];
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') data.push(value);
    else if (field === 'id' || field === 'event') event[field] = value;
  }
  event.data = data.join('\n');
  return event;
}

/** Ends early when the browser is online again. */
function pauseFor(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      removeEventListener('online', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
    addEventListener('online', end);
  });
}
