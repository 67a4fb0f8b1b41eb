import { HeadraceError, UsageError } from './errors.js';
import {
  asArray,
  toLocalFile,
  LocalFile,
  mapFile,
  mayBeFile,
  isFile,
  fitToVariable,
  takesFiles,
  parseVariables,
} from './files.js';
import type { FileContent, FileInput, FileOptions, Variable } from './files.js';
import { buildForm } from './multipart.js';
import type { AppParameters, UploadedFile } from './models.js';
import { completePlan } from './options.js';
import type { AnswerHeaders } from './fetch.js';
import type { CallOptions, ChangedOptions, ClientOptions, Plan, PollingPlan } from './options.js';
import type { HttpResponse, ResponseStream } from './http-request.js';
import { API_VERSION_HEADER, Transport, isInconclusive, parseObject } from './transport.js';

const USER = 'headrace-client';

export interface UserOptions extends CallOptions {
  /** The user of the call; by default the client's `user`. */
  user?: string | undefined;
}

/** A text as one segment of a path. UsageError if it would change the path. */
export function encodeSegment(text: string): string {
  if (typeof text !== 'string' || text === '' || text === '.' || text === '..') {
    throw new UsageError(`${JSON.stringify(text)} is not a valid id`);
  }
  return encodeURIComponent(text);
}

/** What is known about the server and the app; clients made by `withOptions` share it. */
interface ServerState {
  /** Whether the server has Headrace's asynchronous API; null until that is known. */
  hasAsyncApi: boolean | null;
  /** Workflow ids of callers that the server does not know. */
  readonly placeholders: Set<string>;
  variables: Promise<Map<string, Variable>> | null;
}

/** What a client made by `withOptions` shares with the original. */
interface Inherited {
  readonly transport: Transport;
  readonly serverState: ServerState;
}

/** What all calls share: the transport, the user, the kind of server, and the handling of files in inputs. */
export class Core {
  /** @internal */
  protected readonly transport: Transport;
  /** @internal */
  protected readonly serverState: ServerState;
  readonly #options: ClientOptions;
  readonly #user: string;
  readonly #polling: PollingPlan;

  /** `inherited` is for `withOptions`. */
  constructor(options: ClientOptions = {}, inherited?: Inherited) {
    this.transport = inherited?.transport ?? new Transport(options);
    this.serverState = inherited?.serverState ?? { hasAsyncApi: null, placeholders: new Set(), variables: null };
    this.#options = options;
    this.#user = options.user || USER;
    this.#polling = { ...options.polling };
    completePlan(this.#polling);
  }

  /**
   * A copy of this client with other options, for one call or many; `headers` are added to the existing ones. It shares
   * what is known about the server.
   */
  withOptions(changed: ChangedOptions): this {
    const Client = this.constructor as new (options: ClientOptions, inherited: Inherited) => this;
    const { user = this.#options.user, polling = this.#options.polling } = changed;
    const options = { ...this.#options, user, polling };
    return new Client(options, { transport: this.transport.withOptions(changed), serverState: this.serverState });
  }

  /** The server's URL, without the path of an API. */
  get baseUrl(): string {
    return this.transport.root;
  }

  /** The client without its key. */
  toJSON(): object {
    return { baseUrl: this.baseUrl };
  }

  /** @internal */
  protected userOf(options: UserOptions): string {
    return options.user || this.#user;
  }

  /** @internal */
  protected plan(plan: PollingPlan | undefined): Plan {
    return completePlan(plan, this.#polling);
  }

  // ------------------------------------------------------------------------------------------------- kind of server

  /**
   * Whether a response under `/api` is of Headrace's asynchronous API. Stored if it is certain. @internal
   */
  protected detectAsyncApi(response: HttpResponse | ResponseStream): boolean {
    const { status, headers } = response;
    if (headers.has(API_VERSION_HEADER)) this.serverState.hasAsyncApi = true;
    else if (status < 300) {
      // a web server may return HTML for any path; only these are of an API
      this.serverState.hasAsyncApi = /json|event-stream/.test(headers.get('content-type') ?? '');
    } else if (status === 404 || status === 405 || status === 501) this.serverState.hasAsyncApi = false;
    else return false;
    return this.serverState.hasAsyncApi;
  }

  /**
   * Whether a response under `/api` is of a server without the asynchronous API. 429 and 5xx do not show it, nor does
   * any response of a server that is known to have it. @internal
   */
  protected isForeign(status: number, headers: AnswerHeaders): boolean {
    return !this.serverState.hasAsyncApi && !headers.has(API_VERSION_HEADER) && !isInconclusive(status);
  }

  // ---------------------------------------------------------------------------------------------------------- files

  /**
   * Uploads a file: a path, bytes, a Blob, a stream, a `file:` URL or a `LocalFile`. The returned object can be used in
   * `inputs` and `files` of the same user's runs.
   */
  async uploadFile(
    file: string | LocalFile | URL | FileContent,
    options: FileOptions & UserOptions = {},
  ): Promise<UploadedFile> {
    const { filename, mimeType } = options;
    let localFile = toLocalFile(file);
    if (filename || mimeType) {
      localFile = new LocalFile(localFile.content, {
        filename: filename ?? localFile.filename,
        mimeType: mimeType ?? localFile.mimeType,
        type: localFile.type,
      });
    }
    const form = await buildForm({ user: this.userOf(options) }, localFile);
    return this.transport.json<UploadedFile>({
      method: 'POST',
      path: '/v1/files/upload',
      form,
      repeat: 'always',
      signal: options.signal,
      timeout: options.timeout,
    });
  }

  /** The app's input form and features. */
  getParameters(options: CallOptions = {}): Promise<AppParameters> {
    return this.get<AppParameters>('/v1/parameters', options);
  }

  /** Inputs with files uploaded, or referenced by URL, in the form that each variable requires. @internal */
  protected async mapInputs(
    inputs: Readonly<Record<string, unknown>> | undefined,
    user: string,
    signal: AbortSignal | undefined,
  ): Promise<Record<string, unknown>> {
    const values = { ...inputs };
    if (!Object.values(values).some(mayBeFile)) return values;
    return this.mapValues(values, await this.#getVariables(), user, signal);
  }

  /** @internal */
  protected async mapValues(
    values: Readonly<Record<string, unknown>>,
    variables: ReadonlyMap<string, Variable>,
    user: string,
    signal: AbortSignal | undefined,
  ): Promise<Record<string, unknown>> {
    signal?.throwIfAborted();
    const mapEntry = async ([name, value]: [string, unknown]) => [
      name,
      await this.#mapInput(value, variables.get(name), user, signal),
    ];
    return Object.fromEntries(await Promise.all(Object.entries(values).map(mapEntry))) as Record<string, unknown>;
  }

  async #mapInput(value: unknown, variable: Variable | undefined, user: string, signal: AbortSignal | undefined) {
    if (!mayBeFile(value)) return value;
    if (!takesFiles(variable) && !asArray(value).some(isFile)) return value; // a URL for a text variable
    const upload = (file: LocalFile) => this.uploadFile(file, { user, signal });
    return fitToVariable(
      await Promise.all(asArray(value).map((item) => mapFile(item, variable, upload))),
      value,
      variable,
    );
  }

  /** `files` of a request, uploaded or referenced by URL. @internal */
  protected async mapFiles(
    files: readonly FileInput[] | undefined,
    user: string,
    signal: AbortSignal | undefined,
  ): Promise<unknown[] | undefined> {
    if (files === undefined) return undefined;
    const upload = (file: LocalFile) => this.uploadFile(file, { user, signal });
    return Promise.all(
      asArray(files).map((item) => {
        const isPath = typeof item === 'string' && !/^https?:/i.test(item);
        return mapFile(isPath ? new LocalFile(item) : item, undefined, upload);
      }),
    );
  }

  /** The variables of the app's form; none if the server does not provide them. Requested once. */
  #getVariables(): Promise<Map<string, Variable>> {
    this.serverState.variables ??= this.getParameters().then(parseVariables, (error: unknown) => {
      if (error instanceof HeadraceError && [400, 404, 405, 501].includes(error.status ?? 0)) return new Map();
      this.serverState.variables = null;
      throw error;
    });
    return this.serverState.variables;
  }

  // ---------------------------------------------------------------------------------------------------------- sending

  /** @internal */
  protected get<T>(
    path: string,
    options: CallOptions,
    query?: Readonly<Record<string, string | number | boolean | readonly string[] | null | undefined>>,
  ): Promise<T> {
    const { signal, timeout } = options;
    return this.transport.json<T>({ method: 'GET', path, query: query ?? {}, repeat: 'always', signal, timeout });
  }

  /** @internal */
  protected async post<T>(
    path: string,
    json: unknown,
    options: CallOptions,
    repeat: 'always' | 'unsent' = 'always',
    method: 'POST' | 'PUT' | 'DELETE' = 'POST',
  ): Promise<T> {
    const { signal, timeout } = options;
    const response = await this.transport.send({ method, path, json, repeat, signal, timeout });
    return response.bytes.length ? parseObject<T>(response) : ({ result: 'success' } as T);
  }
}
