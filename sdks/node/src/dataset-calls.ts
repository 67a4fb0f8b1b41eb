import type { Call, Query } from './call.js';
import { encodeSegment } from './core.js';
import { ServerError, getRequestId, isObject } from './errors.js';
import { LocalFile, toLocalFile } from './files.js';
import type { FileContent } from './files.js';
import type { Page, Values } from './models.js';
import { buildForm } from './multipart.js';
import type { CallOptions, Plan, PollingPlan } from './options.js';
import { Pages } from './pages.js';
import { attachResponse, copyResponse } from './responses.js';
import type { Transport } from './transport.js';
import { parseObject } from './transport.js';

type Method = Call['method'];
type Repeat = Call['repeat'];

/** What the calls for knowledge bases share. */
export class DatasetCalls {
  /** @internal */
  protected readonly transport: Transport;
  /** @internal */
  protected readonly plan: (plan: PollingPlan | undefined) => Plan;

  /** @internal */
  constructor(transport: Transport, plan: (plan: PollingPlan | undefined) => Plan) {
    this.transport = transport;
    this.plan = plan;
  }

  /** A call whose response is an object. @internal */
  protected call<T>(
    method: Method,
    path: string,
    options: CallOptions,
    json?: unknown,
    repeat: Repeat = 'always',
    query: Query = {},
  ): Promise<T> {
    return this.transport.json<T>({ method, path, query, json, repeat, ...callOptions(options) });
  }

  /** A call that returns nothing. @internal */
  protected async send(method: Method, path: string, options: CallOptions, json?: unknown): Promise<void> {
    await this.transport.send({ method, path, json, repeat: 'always', ...callOptions(options) });
  }

  /** What a response has as `data`. @internal */
  protected async callForData<T extends object>(
    method: Method,
    path: string,
    options: CallOptions,
    json?: unknown,
    repeat: Repeat = 'always',
  ): Promise<T> {
    const response = await this.transport.send({ method, path, json, repeat, ...callOptions(options) });
    const { data } = parseObject<Values>(response);
    if (isObject(data)) return attachResponse(data as T & object, response);
    throw new ServerError('The response has no object as `data`.', {
      status: response.status,
      code: 'invalid_response',
      requestId: getRequestId(response.headers),
      body: response.text,
    });
  }

  /** The objects that a response has as `field`, or, without one, in an array. @internal */
  protected async callForList<T extends object>(
    method: Method,
    path: string,
    options: CallOptions,
    field: string | null,
    json?: unknown,
    repeat: Repeat = 'always',
    query: Query = {},
  ): Promise<readonly T[]> {
    const response = await this.transport.send({ method, path, query, json, repeat, ...callOptions(options) });
    let body: unknown;
    try {
      body = JSON.parse(response.text);
    } catch {
      body = null;
    }
    const list = field === null ? body : isObject(body) ? body[field] : null;
    if (Array.isArray(list) && list.every(isObject)) return attachResponse(list as unknown as readonly T[], response);
    throw new ServerError('The response has no list of objects.', {
      status: response.status,
      code: 'invalid_response',
      requestId: getRequestId(response.headers),
      body: response.text,
    });
  }

  /** @internal */
  protected pages<T>(path: string, options: CallOptions, query: Query, first = 1): Pages<T> {
    const fetchPage = async (number: unknown): Promise<Page<T>> => {
      const page = await this.call<Page<T>>('GET', path, options, undefined, 'always', {
        ...query,
        page: number as number,
      });
      return copyResponse(page, { ...page, page: page.page ?? (number as number) });
    };
    return new Pages(fetchPage, nextPage, first);
  }

  /** Sends a file and, as JSON text, what else the request has. @internal */
  protected async upload<T>(
    path: string,
    file: string | LocalFile | URL | FileContent,
    filename: string | undefined,
    fields: Values | null,
    options: CallOptions,
  ): Promise<T> {
    let localFile = toLocalFile(file);
    if (filename) localFile = new LocalFile(localFile.content, { filename, mimeType: localFile.mimeType });
    const form = await buildForm(fields ? { data: JSON.stringify(fields) } : {}, localFile);
    return this.transport.json<T>({ method: 'POST', path, form, repeat: 'unsent', ...callOptions(options) });
  }
}

/** The path of a knowledge base, or of what is in it. UsageError if an id would change the path. */
export function datasetPath(...segments: readonly string[]): string {
  return ['/v1/datasets', ...segments.map(encodeSegment)].join('/');
}

/** The options of a request, and its fields by the server's names. */
export function splitRequest(request: CallOptions & object): { options: CallOptions; fields: Values } {
  const { signal, timeout, ...rest } = request;
  const fields = Object.entries(rest).map(([name, value]) => [
    name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value as unknown,
  ]);
  return { options: { signal, timeout }, fields: Object.fromEntries(fields) as Values };
}

function callOptions({ signal, timeout }: CallOptions): CallOptions {
  return { signal, timeout };
}

/** The number of the page that follows, by whether the server says that there is one, or by its total. */
function nextPage({ page = 1, limit, total, has_more }: Page<unknown>): number | undefined {
  return (has_more ?? page * (limit ?? Infinity) < (total ?? 0)) ? page + 1 : undefined;
}
