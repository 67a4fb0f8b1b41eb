import { Chats } from './chats.js';
import { encodeSegment } from './core.js';
import type { UserOptions } from './core.js';
import { Datasets } from './datasets.js';
import { ServerError } from './errors.js';
import type { AppInfo, AppMeta, AppSite, Done, Health, Values } from './models.js';
import { formVariables, mayBeFile } from './files.js';
import type { HumanInputForm } from './human-input.js';
import type { CallOptions } from './options.js';
import { attachResponse } from './responses.js';
import { parseObject } from './transport.js';

/**
 * A client for one app of a Headrace or Dify server.
 *
 * Create one client and share it: it remembers which kind of server it talks to.
 */
export class DifyClient extends Chats {
  // -------------------------------------------------------------------------------------------------------- the app

  /** The app's name, description and mode. */
  async getInfo(options: CallOptions = {}): Promise<AppInfo> {
    return this.get<AppInfo>('/v1/info', options);
  }

  /** The icons of the tools that the app uses. */
  async getMeta(options: CallOptions = {}): Promise<AppMeta> {
    return this.get<AppMeta>('/v1/meta', options);
  }

  /** The settings of the app's web page. */
  async getSite(options: CallOptions = {}): Promise<AppSite> {
    return this.get<AppSite>('/v1/site', options);
  }

  /** The bytes of an uploaded file. */
  async downloadFile(fileId: string, options: UserOptions = {}): Promise<Uint8Array> {
    const { signal, timeout } = options;
    const path = `/v1/files/${encodeSegment(fileId)}/preview`;
    const query = { user: this.userOf(options) };
    return (await this.transport.send({ method: 'GET', path, query, repeat: 'always', signal, timeout })).bytes;
  }

  // ------------------------------------------------------------------------------------------------- forms, datasets

  /** The form of a run that waits for a person's input. `formToken` is in the event human_input_required. */
  async getHumanInputForm(formToken: string, options: CallOptions = {}): Promise<HumanInputForm> {
    return this.get<HumanInputForm>(`/v1/form/human_input/${encodeSegment(formToken)}`, options);
  }

  /**
   * Submits a form; the run continues. `action`: the id of one of its `user_actions`. `inputs`: all of its inputs by
   * name; files are uploaded, or referenced by URL. ValidationError with the status 412 if the form has been submitted,
   * or its time is over.
   */
  async submitHumanInputForm(
    formToken: string,
    answer: UserOptions & { action: string; inputs?: Values | undefined },
  ): Promise<Done> {
    const user = this.userOf(answer);
    let inputs = answer.inputs ?? {};
    if (Object.values(inputs).some(mayBeFile)) {
      const form = await this.getHumanInputForm(formToken, answer);
      inputs = await this.mapValues(inputs, formVariables(form), user, answer.signal);
    }
    const body = { inputs, action: answer.action, user };
    return this.post<Done>(`/v1/form/human_input/${encodeSegment(formToken)}`, body, answer, 'unsent');
  }

  /** Knowledge bases. Their calls need a knowledge key (`dataset-...`) instead of an app's. */
  get datasets(): Datasets {
    return new Datasets(this.transport, (plan) => this.plan(plan));
  }

  // --------------------------------------------------------------------------------------------------------- health

  /** Whether the server is alive (Headrace: /healthz). */
  async getHealth(options: CallOptions = {}): Promise<Health> {
    return this.#health('/healthz', options);
  }

  /** Whether the server accepts requests (Headrace: /readyz). It is not an error if it does not. */
  async getReadiness(options: CallOptions = {}): Promise<Health> {
    return this.#health('/readyz', options);
  }

  async #health(path: string, { signal, timeout }: CallOptions): Promise<Health> {
    const response = await this.transport.send({
      method: 'GET',
      path,
      repeat: 'unsent',
      accept: (status, headers) => status === 503 && /json/.test(headers.get('content-type') ?? ''),
      signal,
      timeout,
    });
    const body = parseObject<Values>(response);
    if (typeof body['status'] !== 'string')
      throw new ServerError("The response does not have the server's status.", { body });
    return attachResponse({ ...body, status: body['status'], healthy: response.status < 300 }, response);
  }
}

export { DifyClient as Client };
