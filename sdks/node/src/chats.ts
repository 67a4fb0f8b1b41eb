import type { UserOptions } from './core.js';
import { segment } from './core.js';
import { ConnectionError, isObject, secondsOf } from './errors.js';
import type { ChatEvent } from './events.js';
import { localFileOf } from './files.js';
import type { FileContent, FileInput, LocalFile } from './files.js';
import type {
  Conversation,
  ConversationVariable,
  Done,
  Feedback,
  Message,
  Page,
  PastMessage,
  SuggestedQuestions,
  Transcript,
  Values,
} from './models.js';
import { formOf } from './multipart.js';
import { Pages } from './pages.js';
import { carried } from './responses.js';
import { CHAT_ENDS, Reader } from './event-reader.js';
import type { Told } from './event-reader.js';
import { finishedBy } from './workflow-requests.js';
import { Runs } from './runs.js';
import { EventStream } from './streams.js';
import type { Stream } from './http-request.js';
import type { Call } from './transport.js';

export interface CompletionRequest extends UserOptions {
  inputs?: Readonly<Record<string, unknown>> | undefined;
  query?: string | undefined;
  files?: readonly FileInput[] | undefined;
}

export interface ChatRequest extends CompletionRequest {
  query: string;
  /** Left out: a new conversation. */
  conversationId?: string | undefined;
  /** Whether the conversation gets a name by itself. */
  autoGenerateName?: boolean | undefined;
  /** A published version of a chatflow. */
  workflowId?: string | undefined;
}

export interface ListOptions extends UserOptions {
  /** Entries a page: 20. */
  limit?: number | undefined;
}

type AnyRequest = Omit<ChatRequest, 'query'> & Pick<CompletionRequest, 'query'>;

const LONG = 300; // seconds that a blocking call may take where nothing else is said
const CHAT = '/v1/chat-messages';
const COMPLETION = '/v1/completion-messages';

/** Calls about chats and completions. */
export class Chats extends Runs {
  // ------------------------------------------------------------------------------------------------------- messages

  /** Sends a message and waits for the whole answer. RunFailedError where a chatflow fails. */
  sendChatMessage(request: ChatRequest): Promise<Message> {
    return this.#whole(CHAT, request);
  }

  /** Sends a message and tells the answer as it comes; `stream.text` is all of it so far. */
  streamChatMessage(request: ChatRequest): EventStream<ChatEvent> {
    return this.#streamed(CHAT, request);
  }

  /** Has a completion app write, and waits for the whole text. */
  createCompletion(request: CompletionRequest = {}): Promise<Message> {
    return this.#whole(COMPLETION, request);
  }

  /** Has a completion app write, and tells the text as it comes. */
  streamCompletion(request: CompletionRequest = {}): EventStream<ChatEvent> {
    return this.#streamed(COMPLETION, request);
  }

  /** Stops an answer that is being written. */
  async stopChatMessage(taskId: string, options: UserOptions = {}): Promise<Done> {
    return this.post<Done>(`${CHAT}/${segment(taskId)}/stop`, { user: this.userOf(options) }, options);
  }

  /** Stops a completion that is being written. */
  async stopCompletion(taskId: string, options: UserOptions = {}): Promise<Done> {
    return this.post<Done>(`${COMPLETION}/${segment(taskId)}/stop`, { user: this.userOf(options) }, options);
  }

  /** What could be asked next. */
  async getSuggestedQuestions(messageId: string, options: UserOptions = {}): Promise<SuggestedQuestions> {
    const query = { user: this.userOf(options) };
    return this.get<SuggestedQuestions>(`/v1/messages/${segment(messageId)}/suggested`, options, query);
  }

  /** Rates a message; a rating of null takes it back. */
  async sendFeedback(
    messageId: string,
    request: UserOptions & { rating: 'like' | 'dislike' | null; content?: string | undefined },
  ): Promise<Done> {
    const body = { rating: request.rating, content: request.content, user: this.userOf(request) };
    return this.post<Done>(`/v1/messages/${segment(messageId)}/feedbacks`, body, request);
  }

  /** All feedback that the app has been given. */
  listFeedbacks(options: ListOptions & { page?: number | undefined } = {}): Pages<Feedback> {
    const { limit = 20 } = options;
    const ask = async (mark: unknown): Promise<Page<Feedback>> => {
      const page = mark as number;
      const told = await this.get<Page<Feedback>>('/v1/app/feedbacks', options, { page, limit });
      return carried(told, { page, ...told });
    };
    // the answer does not say whether there is more: a full page may be followed by another
    return new Pages(ask, (told) => (told.data.length >= limit ? (told.page ?? 1) + 1 : undefined), options.page ?? 1);
  }

  // -------------------------------------------------------------------------------------------------- conversations

  /** The user's conversations, those of late first. */
  listConversations(options: ListOptions & { sortBy?: string | undefined } = {}): Pages<Conversation> {
    const { limit = 20, sortBy: sort_by } = options;
    const user = this.userOf(options);
    const ask = (last: unknown) =>
      this.get<Page<Conversation>>('/v1/conversations', options, { user, last_id: last as string, limit, sort_by });
    return new Pages(ask, (page) => (page.has_more ? page.data.at(-1)?.id : undefined));
  }

  /** The messages of a conversation. Each page goes further back; within one, older ones come first. */
  listMessages(conversationId: string, options: ListOptions = {}): Pages<PastMessage> {
    const { limit = 20 } = options;
    const known = { conversation_id: conversationId, user: this.userOf(options), limit };
    const ask = (first: unknown) =>
      this.get<Page<PastMessage>>('/v1/messages', options, { ...known, first_id: first as string });
    return new Pages(ask, (page) => (page.has_more ? page.data[0]?.id : undefined));
  }

  /** Gives a conversation a name; with `autoGenerate` one that is made up from what was said. */
  async renameConversation(
    conversationId: string,
    request: UserOptions & { name?: string | undefined; autoGenerate?: boolean | undefined },
  ): Promise<Conversation> {
    const body = { name: request.name, auto_generate: request.autoGenerate ?? false, user: this.userOf(request) };
    return this.post<Conversation>(`/v1/conversations/${segment(conversationId)}/name`, body, request);
  }

  /** Deletes a conversation and its messages. */
  async deleteConversation(conversationId: string, options: UserOptions = {}): Promise<void> {
    const path = `/v1/conversations/${segment(conversationId)}`;
    const json = { user: this.userOf(options) };
    const { signal, timeout } = options;
    await this.transport.send({ method: 'DELETE', path, json, repeat: 'always', signal, timeout });
  }

  /** What a conversation remembers. */
  listConversationVariables(
    conversationId: string,
    options: ListOptions & { variableName?: string | undefined } = {},
  ): Pages<ConversationVariable> {
    const path = `/v1/conversations/${segment(conversationId)}/variables`;
    const known = { user: this.userOf(options), limit: options.limit ?? 20, variable_name: options.variableName };
    const ask = (last: unknown) =>
      this.get<Page<ConversationVariable>>(path, options, { ...known, last_id: last as string });
    return new Pages(ask, (page) => (page.has_more ? page.data.at(-1)?.id : undefined));
  }

  /** Sets what a conversation remembers. */
  async updateConversationVariable(
    conversationId: string,
    variableId: string,
    request: UserOptions & { value: unknown },
  ): Promise<ConversationVariable> {
    const path = `/v1/conversations/${segment(conversationId)}/variables/${segment(variableId)}`;
    const body = { value: request.value, user: this.userOf(request) };
    return this.post<ConversationVariable>(path, body, request, 'always', 'PUT');
  }

  // --------------------------------------------------------------------------------------------------------- speech

  /** What is said in a recording: a path, bytes, a Blob, a stream, a `file:` URL or a `LocalFile`. */
  async audioToText(file: string | LocalFile | URL | FileContent, options: UserOptions = {}): Promise<Transcript> {
    const form = await formOf({ user: this.userOf(options) }, localFileOf(file));
    const { signal, timeout } = options;
    return this.transport.json({ method: 'POST', path: '/v1/audio-to-text', form, repeat: 'always', signal, timeout });
  }

  /** A text, or a message's answer, spoken: the sound file's bytes. */
  async textToAudio(
    request: UserOptions & {
      text?: string | undefined;
      messageId?: string | undefined;
      voice?: string | undefined;
    },
  ): Promise<Uint8Array> {
    const { text, messageId: message_id, voice, signal, timeout } = request;
    const json = { text, message_id, voice, streaming: false, user: this.userOf(request) };
    const call = { method: 'POST', path: '/v1/text-to-audio', json, repeat: 'always', signal, timeout } as const;
    return (await this.transport.send(call)).bytes;
  }

  // -------------------------------------------------------------------------------------------------------- sending

  async #asked(path: string, request: AnyRequest, mode: string): Promise<Call> {
    const user = this.userOf(request);
    const { query, signal } = request;
    const json = {
      inputs: await this.inputsOf(request.inputs, user, signal),
      files: await this.filesOf(request.files, user, signal),
      query,
      user,
      conversation_id: request.conversationId,
      auto_generate_name: request.autoGenerateName,
      workflow_id: request.workflowId,
      response_mode: mode,
    };
    const timeout = request.timeout ?? (mode === 'blocking' ? LONG : undefined);
    return { method: 'POST', path, json, repeat: 'unsent', signal, timeout };
  }

  async #whole(path: string, request: AnyRequest): Promise<Message> {
    return this.transport.json<Message>(await this.#asked(path, request, 'blocking'));
  }

  #streamed(path: string, request: AnyRequest): EventStream<ChatEvent> {
    const { signal } = request;
    const user = this.userOf(request);
    return new EventStream<ChatEvent>(
      {
        start: async () => this.transport.open(await this.#asked(path, request, 'streaming')),
        pause: (fruitless) => this.transport.sleep(this.transport.pause(fruitless), signal),
        resume: (reader) => this.#resumed(reader, user, signal),
        outcome: (reader) => this.#outcome(reader, user, signal),
      },
      new Reader(CHAT_ENDS),
    );
  }

  /** The stream of a chatflow from where it was cut, where the server sends ids. */
  async #resumed(reader: Reader, user: string, signal: AbortSignal | undefined): Promise<Stream | null> {
    if (!reader.runId || reader.place === null) return null;
    return this.transport.open({
      method: 'GET',
      path: `/v1/workflow/${segment(reader.runId)}/events`,
      query: { user },
      headers: { 'Last-Event-ID': reader.place },
      repeat: 'always',
      signal,
    });
  }

  /** The end of the run, if it has one, and of the message, with its whole answer. */
  async #outcome(reader: Reader, user: string, signal: AbortSignal | undefined): Promise<Told[]> {
    const events: Told[] = [];
    const { runId, messageId: message_id, conversationId: conversation_id, taskId: task_id } = reader;
    let finished = reader.finished;
    if (runId && !finished) {
      finished = finishedBy(reader, await this.ended(runId, this.plan(undefined), signal));
      events.push(finished);
    }
    const known = { conversation_id, message_id, task_id };
    const data = isObject(finished?.['data']) ? finished['data'] : {};
    if (data['status'] === 'failed' || data['status'] === 'stopped') {
      const message = `Run failed: ${typeof data['error'] === 'string' ? data['error'] : `the run ${data['status']}`}`;
      return [...events, { ...known, event: 'error', status: 400, code: 'invalid_param', message }];
    }
    return [...events, { ...known, ...(await this.#message(reader, user, signal)), event: 'message_end' }];
  }

  /** What the conversation's history has on the message. */
  async #message(reader: Reader, user: string, signal: AbortSignal | undefined): Promise<Values> {
    const { messageId, conversationId: conversation_id } = reader;
    if (!messageId || !conversation_id) throw new ConnectionError('no history tells what became of it');
    const plan = this.plan(undefined);
    const { clock, sleep } = this.transport;
    const until = clock() + plan.timeout;
    let before: string | null = null;
    for (let interval = plan.first; ; interval = Math.min(plan.longest, interval * plan.factor)) {
      const query = { conversation_id, user, limit: 20 };
      const page = await this.get<Page<PastMessage>>('/v1/messages', { signal }, query);
      const found = page.data.find((each) => each.id === messageId);
      // without a run to tell that it has ended, a message is whole when it does not grow any more
      if (found?.answer && (reader.runId || found.answer === before)) {
        return { id: messageId, answer: found.answer, created_at: found.created_at, metadata: {} };
      }
      before = found?.answer ?? null;
      const left = until - clock();
      if (left <= 0) throw new ConnectionError(`after ${secondsOf(plan.timeout)} the message is not there`);
      await sleep(Math.min(interval, left), signal);
    }
  }
}
