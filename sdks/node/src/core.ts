import { HeadraceError, UsageError } from './errors.js';
import { listed, localFileOf, LocalFile, mapped, mayBeFile, isFile, shaped, takesFiles, variablesOf } from './files.js';
import type { FileContent, FileInput, FileOptions, Variable } from './files.js';
import { formOf } from './multipart.js';
import type { AppParameters, UploadedFile } from './models.js';
import { planOf } from './options.js';
import type { AnswerHeaders } from './fetch.js';
import type { CallOptions, ChangedOptions, ClientOptions, Plan, PollingPlan } from './options.js';
import type { Answer, Stream } from './http-request.js';
import { MARK, Transport, isSilent, parse } from './transport.js';

const USER = 'headrace-client';

export interface UserOptions extends CallOptions {
  /** Whom the call is made for; else the client's `user`. */
  user?: string | undefined;
}

/** A text as one part of a path. HeadraceError where it would name another path. */
export function segment(text: string): string {
  if (typeof text !== 'string' || text === '' || text === '.' || text === '..') {
    throw new UsageError(`${JSON.stringify(text)} is not a valid id`);
  }
  return encodeURIComponent(text);
}

/** What has been found out about the server and the app; clients made by `withOptions` share it. */
interface Knowledge {
  /** Whether the server has Headrace's asynchronous API; null until that is found out. */
  headrace: boolean | null;
  /** What was given as workflow ids, and is none. */
  readonly placeholders: Set<string>;
  form: Promise<Map<string, Variable>> | null;
}

/** What a client made by `withOptions` takes over from the one that it was made from. */
interface Inherited {
  readonly transport: Transport;
  readonly known: Knowledge;
}

/** What all calls work with: the transport, who is asking, which kind of server it is, and files in inputs. */
export class Core {
  /** @internal */
  protected readonly transport: Transport;
  /** @internal */
  protected readonly known: Knowledge;
  readonly #options: ClientOptions;
  readonly #user: string;
  readonly #polling: PollingPlan;

  /** `inherited` is for `withOptions`. */
  constructor(options: ClientOptions = {}, inherited?: Inherited) {
    this.transport = inherited?.transport ?? new Transport(options);
    this.known = inherited?.known ?? { headrace: null, placeholders: new Set(), form: null };
    this.#options = options;
    this.#user = options.user || USER;
    this.#polling = { ...options.polling };
    planOf(this.#polling);
  }

  /**
   * This client with some options changed, for one call or for many; `headers` are added to those that it has. Shares
   * what has been found out about the server.
   */
  withOptions(changed: ChangedOptions): this {
    const Client = this.constructor as new (options: ClientOptions, inherited: Inherited) => this;
    const { user = this.#options.user, polling = this.#options.polling } = changed;
    const options = { ...this.#options, user, polling };
    return new Client(options, { transport: this.transport.withOptions(changed), known: this.known });
  }

  /** Where the server is, without the path of any of its APIs. */
  get baseUrl(): string {
    return this.transport.root;
  }

  /** The client is shown without its key. */
  toJSON(): object {
    return { baseUrl: this.baseUrl };
  }

  /** @internal */
  protected userOf(options: UserOptions): string {
    return options.user || this.#user;
  }

  /** @internal */
  protected plan(plan: PollingPlan | undefined): Plan {
    return planOf(plan, this.#polling);
  }

  // ------------------------------------------------------------------------------------------------- kind of server

  /**
   * Whether an answer under `/api` comes from Headrace's asynchronous API. Remembered, where it is certain. @internal
   */
  protected learn(answer: Answer | Stream): boolean {
    const { status, headers } = answer;
    if (headers.has(MARK)) this.known.headrace = true;
    else if (status < 300) {
      // a page for people answers any path; only these are of an API
      this.known.headrace = /json|event-stream/.test(headers.get('content-type') ?? '');
    } else if (status === 404 || status === 405 || status === 501) this.known.headrace = false;
    else return false;
    return this.known.headrace;
  }

  /**
   * Whether an answer under `/api` is of a server without an asynchronous API. 429 and 5xx say nothing; nor does
   * anything where the server is known to have one. @internal
   */
  protected foreign(status: number, headers: AnswerHeaders): boolean {
    return !this.known.headrace && !headers.has(MARK) && !isSilent(status);
  }

  // ---------------------------------------------------------------------------------------------------------- files

  /**
   * Uploads a file: a path, bytes, a Blob, a stream, a `file:` URL or a `LocalFile`. The answer may stand in `inputs`
   * and `files` of runs of the same user.
   */
  async uploadFile(
    file: string | LocalFile | URL | FileContent,
    options: FileOptions & UserOptions = {},
  ): Promise<UploadedFile> {
    const { filename, mimeType } = options;
    let given = localFileOf(file);
    if (filename || mimeType) {
      given = new LocalFile(given.content, {
        filename: filename ?? given.filename,
        mimeType: mimeType ?? given.mimeType,
        type: given.type,
      });
    }
    const form = await formOf({ user: this.userOf(options) }, given);
    return this.transport.json<UploadedFile>({
      method: 'POST',
      path: '/v1/files/upload',
      form,
      repeat: 'always',
      signal: options.signal,
      timeout: options.timeout,
    });
  }

  /** What the app takes as inputs, and what it offers. */
  getParameters(options: CallOptions = {}): Promise<AppParameters> {
    return this.get<AppParameters>('/v1/parameters', options);
  }

  /** Inputs with their files uploaded, or passed on, in the shape that each variable wants. @internal */
  protected async inputsOf(
    inputs: Readonly<Record<string, unknown>> | undefined,
    user: string,
    signal: AbortSignal | undefined,
  ): Promise<Record<string, unknown>> {
    const given = { ...inputs };
    if (!Object.values(given).some(mayBeFile)) return given;
    const form = await this.#variables();
    signal?.throwIfAborted();
    const shape = async ([name, value]: [string, unknown]) => [
      name,
      await this.#input(value, form.get(name), user, signal),
    ];
    return Object.fromEntries(await Promise.all(Object.entries(given).map(shape))) as Record<string, unknown>;
  }

  async #input(value: unknown, variable: Variable | undefined, user: string, signal: AbortSignal | undefined) {
    if (!mayBeFile(value)) return value;
    if (!takesFiles(variable) && !listed(value).some(isFile)) return value; // a URL for a variable that takes text
    const upload = (file: LocalFile) => this.uploadFile(file, { user, signal });
    return shaped(await Promise.all(listed(value).map((each) => mapped(each, variable, upload))), value, variable);
  }

  /** `files` of a request, uploaded or passed on. @internal */
  protected async filesOf(
    files: readonly FileInput[] | undefined,
    user: string,
    signal: AbortSignal | undefined,
  ): Promise<unknown[] | undefined> {
    if (files === undefined) return undefined;
    const upload = (file: LocalFile) => this.uploadFile(file, { user, signal });
    return Promise.all(
      listed(files).map((each) => {
        const path = typeof each === 'string' && !/^https?:/i.test(each);
        return mapped(path ? new LocalFile(each) : each, undefined, upload);
      }),
    );
  }

  /** The variables of the app's form; none where the server does not tell. Asked for once. */
  #variables(): Promise<Map<string, Variable>> {
    this.known.form ??= this.getParameters().then(variablesOf, (error: unknown) => {
      if (error instanceof HeadraceError && [400, 404, 405, 501].includes(error.status ?? 0)) return new Map();
      this.known.form = null;
      throw error;
    });
    return this.known.form;
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
    const answer = await this.transport.send({ method, path, json, repeat, signal, timeout });
    return answer.bytes.length ? parse<T>(answer) : ({ result: 'success' } as T);
  }
}
