import type { UserOptions } from './core.js';
import { encodeSegment } from './core.js';
import { ConnectionError, isObject, formatSeconds } from './errors.js';
import type { ChatEvent } from './events.js';
import { toLocalFile } from './files.js';
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
import { buildForm } from './multipart.js';
import { Pages } from './pages.js';
import { copyResponse } from './responses.js';
import { CHAT_ENDS, EventReader } from './event-reader.js';
import type { RawEvent } from './event-reader.js';
import { toLastEvent } from './workflow-requests.js';
import { Runs } from './runs.js';
import { EventStream } from './streams.js';
import type { ResponseStream } from './http-request.js';
import type { Call } from './call.js';

export interface CompletionRequest extends UserOptions {
  inputs?: Readonly<Record<string, unknown>> | undefined;
  query?: string | undefined;
  files?: readonly FileInput[] | undefined;
}

export interface ChatRequest extends CompletionRequest {
  query: string;
  /** The conversation to continue; left out for a new one. */
  conversationId?: string | undefined;
  /** Whether to generate a name for the conversation. */
  autoGenerateName?: boolean | undefined;
  /** A published version of a chatflow. */
  workflowId?: string | undefined;
}

export interface ListOptions extends UserOptions {
  /** Items per page: 20. */
  limit?: number | undefined;
}

type AnyRequest = Omit<ChatRequest, 'query'> & Pick<CompletionRequest, 'query'>;

const BLOCKING_TIMEOUT = 300; // default seconds of a blocking call
const CHAT = '/v1/chat-messages';
const COMPLETION = '/v1/completion-messages';

/** Calls for chats and completions. */
export class Chats extends Runs {
  // ------------------------------------------------------------------------------------------------------- messages

  /** Sends a message and waits for the whole answer. RunFailedError if a chatflow fails. */
  sendChatMessage(request: ChatRequest): Promise<Message> {
    return this.#sendBlocking(CHAT, request);
  }

  /** Sends a message and streams the answer; `stream.text` is the text so far. */
  streamChatMessage(request: ChatRequest): EventStream<ChatEvent> {
    return this.#sendStreaming(CHAT, request);
  }

  /** Calls a completion app and waits for the whole text. */
  createCompletion(request: CompletionRequest = {}): Promise<Message> {
    return this.#sendBlocking(COMPLETION, request);
  }

  /** Calls a completion app and streams the text. */
  streamCompletion(request: CompletionRequest = {}): EventStream<ChatEvent> {
    return this.#sendStreaming(COMPLETION, request);
  }

  /** Stops an answer while it is generated. */
  async stopChatMessage(taskId: string, options: UserOptions = {}): Promise<Done> {
    return this.post<Done>(`${CHAT}/${encodeSegment(taskId)}/stop`, { user: this.userOf(options) }, options);
  }

  /** Stops a completion while it is generated. */
  async stopCompletion(taskId: string, options: UserOptions = {}): Promise<Done> {
    return this.post<Done>(`${COMPLETION}/${encodeSegment(taskId)}/stop`, { user: this.userOf(options) }, options);
  }

  /** Suggestions for the next question. */
  async getSuggestedQuestions(messageId: string, options: UserOptions = {}): Promise<SuggestedQuestions> {
    const query = { user: this.userOf(options) };
    return this.get<SuggestedQuestions>(`/v1/messages/${encodeSegment(messageId)}/suggested`, options, query);
  }

  /** Rates a message; null removes the rating. */
  async sendFeedback(
    messageId: string,
    request: UserOptions & { rating: 'like' | 'dislike' | null; content?: string | undefined },
  ): Promise<Done> {
    const body = { rating: request.rating, content: request.content, user: this.userOf(request) };
    return this.post<Done>(`/v1/messages/${encodeSegment(messageId)}/feedbacks`, body, request);
  }

  /** All feedback about the app. */
  listFeedbacks(options: ListOptions & { page?: number | undefined } = {}): Pages<Feedback> {
    const { limit = 20 } = options;
    const fetchPage = async (cursor: unknown): Promise<Page<Feedback>> => {
      const page = cursor as number;
      const payload = await this.get<Page<Feedback>>('/v1/app/feedbacks', options, { page, limit });
      return copyResponse(payload, { page, ...payload });
    };
    // the response does not show whether there is more: a full page may be followed by another
    const nextPage = ({ data, page }: Page<Feedback>) => (data.length >= limit ? (page ?? 1) + 1 : undefined);
    return new Pages(fetchPage, nextPage, options.page ?? 1);
  }

  // -------------------------------------------------------------------------------------------------- conversations

  /** The user's conversations, the most recent first. */
  listConversations(options: ListOptions & { sortBy?: string | undefined } = {}): Pages<Conversation> {
    const { limit = 20, sortBy: sort_by } = options;
    const user = this.userOf(options);
    const fetchPage = (last: unknown) =>
      this.get<Page<Conversation>>('/v1/conversations', options, { user, last_id: last as string, limit, sort_by });
    return new Pages(fetchPage, (page) => (page.has_more ? page.data.at(-1)?.id : undefined));
  }

  /** The messages of a conversation. Each page has older messages; within a page, the oldest is first. */
  listMessages(conversationId: string, options: ListOptions = {}): Pages<PastMessage> {
    const { limit = 20 } = options;
    const query = { conversation_id: conversationId, user: this.userOf(options), limit };
    const fetchPage = (first: unknown) =>
      this.get<Page<PastMessage>>('/v1/messages', options, { ...query, first_id: first as string });
    return new Pages(fetchPage, (page) => (page.has_more ? page.data[0]?.id : undefined));
  }

  /** Renames a conversation; with `autoGenerate` the name is generated from its messages. */
  async renameConversation(
    conversationId: string,
    request: UserOptions & { name?: string | undefined; autoGenerate?: boolean | undefined },
  ): Promise<Conversation> {
    const body = { name: request.name, auto_generate: request.autoGenerate ?? false, user: this.userOf(request) };
    return this.post<Conversation>(`/v1/conversations/${encodeSegment(conversationId)}/name`, body, request);
  }

  /** Deletes a conversation and its messages. */
  async deleteConversation(conversationId: string, options: UserOptions = {}): Promise<void> {
    const path = `/v1/conversations/${encodeSegment(conversationId)}`;
    const json = { user: this.userOf(options) };
    const { signal, timeout } = options;
    await this.transport.send({ method: 'DELETE', path, json, repeat: 'always', signal, timeout });
  }

  /** The conversation's variables. */
  listConversationVariables(
    conversationId: string,
    options: ListOptions & { variableName?: string | undefined } = {},
  ): Pages<ConversationVariable> {
    const path = `/v1/conversations/${encodeSegment(conversationId)}/variables`;
    const query = { user: this.userOf(options), limit: options.limit ?? 20, variable_name: options.variableName };
    const fetchPage = (last: unknown) =>
      this.get<Page<ConversationVariable>>(path, options, { ...query, last_id: last as string });
    return new Pages(fetchPage, (page) => (page.has_more ? page.data.at(-1)?.id : undefined));
  }

  /** Sets a conversation variable. */
  async updateConversationVariable(
    conversationId: string,
    variableId: string,
    request: UserOptions & { value: unknown },
  ): Promise<ConversationVariable> {
    const path = `/v1/conversations/${encodeSegment(conversationId)}/variables/${encodeSegment(variableId)}`;
    const body = { value: request.value, user: this.userOf(request) };
    return this.post<ConversationVariable>(path, body, request, 'always', 'PUT');
  }

  // --------------------------------------------------------------------------------------------------------- speech

  /** Transcribes a recording: a path, bytes, a Blob, a stream, a `file:` URL or a `LocalFile`. */
  async audioToText(file: string | LocalFile | URL | FileContent, options: UserOptions = {}): Promise<Transcript> {
    const form = await buildForm({ user: this.userOf(options) }, toLocalFile(file));
    const { signal, timeout } = options;
    return this.transport.json({ method: 'POST', path: '/v1/audio-to-text', form, repeat: 'always', signal, timeout });
  }

  /** Speech for a text or a message's answer: the bytes of the audio file. */
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

  async #buildCall(path: string, request: AnyRequest, mode: string): Promise<Call> {
    const user = this.userOf(request);
    const { query, signal } = request;
    const json = {
      inputs: await this.mapInputs(request.inputs, user, signal),
      files: await this.mapFiles(request.files, user, signal),
      query,
      user,
      conversation_id: request.conversationId,
      auto_generate_name: request.autoGenerateName,
      workflow_id: request.workflowId,
      response_mode: mode,
    };
    const timeout = request.timeout ?? (mode === 'blocking' ? BLOCKING_TIMEOUT : undefined);
    return { method: 'POST', path, json, repeat: 'unsent', signal, timeout };
  }

  async #sendBlocking(path: string, request: AnyRequest): Promise<Message> {
    return this.transport.json<Message>(await this.#buildCall(path, request, 'blocking'));
  }

  #sendStreaming(path: string, request: AnyRequest): EventStream<ChatEvent> {
    const { signal } = request;
    const user = this.userOf(request);
    return new EventStream<ChatEvent>(
      {
        start: async () => this.transport.open(await this.#buildCall(path, request, 'streaming')),
        pause: (attempt) => this.transport.sleep(this.transport.pause(attempt), signal),
        resume: (reader) => this.#resume(reader, user, signal),
        fetchOutcome: (reader) => this.#fetchOutcome(reader, user, signal),
      },
      new EventReader(CHAT_ENDS),
    );
  }

  /** The stream of a chatflow after the last event, if the server sends ids. */
  async #resume(reader: EventReader, user: string, signal: AbortSignal | undefined): Promise<ResponseStream | null> {
    if (!reader.runId || reader.lastEventId === null) return null;
    return this.transport.open({
      method: 'GET',
      path: `/v1/workflow/${encodeSegment(reader.runId)}/events`,
      query: { user },
      headers: { 'Last-Event-ID': reader.lastEventId },
      repeat: 'always',
      signal,
    });
  }

  /** The last event of the run, if there is one, and of the message, with its whole answer. */
  async #fetchOutcome(reader: EventReader, user: string, signal: AbortSignal | undefined): Promise<RawEvent[]> {
    const events: RawEvent[] = [];
    const { runId, messageId: message_id, conversationId: conversation_id, taskId: task_id } = reader;
    let finishedEvent = reader.finishedEvent;
    if (runId && !finishedEvent) {
      finishedEvent = toLastEvent(reader, await this.waitUntilOver(reader, this.plan(undefined), signal));
      events.push(finishedEvent);
      if (finishedEvent.event === 'workflow_paused') return events;
    }
    const ids = { conversation_id, message_id, task_id };
    const data = isObject(finishedEvent?.['data']) ? finishedEvent['data'] : {};
    if (data['status'] === 'failed' || data['status'] === 'stopped') {
      const message = `Run failed: ${typeof data['error'] === 'string' ? data['error'] : `the run ${data['status']}`}`;
      return [...events, { ...ids, event: 'error', status: 400, code: 'invalid_param', message }];
    }
    return [...events, { ...ids, ...(await this.#fetchMessage(reader, user, signal)), event: 'message_end' }];
  }

  /** The message in the conversation's history. */
  async #fetchMessage(reader: EventReader, user: string, signal: AbortSignal | undefined): Promise<Values> {
    const { messageId, conversationId: conversation_id } = reader;
    if (!messageId || !conversation_id)
      throw new ConnectionError("the message cannot be found in a conversation's history");
    const plan = this.plan(undefined);
    const { clock, sleep } = this.transport;
    const deadline = clock() + plan.timeout;
    let previous: string | null = null;
    for (let interval = plan.first; ; interval = Math.min(plan.longest, interval * plan.factor)) {
      const query = { conversation_id, user, limit: 20 };
      const page = await this.get<Page<PastMessage>>('/v1/messages', { signal }, query);
      const message = page.data.find((item) => item.id === messageId);
      // without a run that shows the end, a message is complete when it does not grow any more
      if (message?.answer && (reader.runId || message.answer === previous)) {
        return { id: messageId, answer: message.answer, created_at: message.created_at, metadata: {} };
      }
      previous = message?.answer ?? null;
      const remaining = deadline - clock();
      if (remaining <= 0)
        throw new ConnectionError(`after ${formatSeconds(plan.timeout)} the message is not in the history`);
      await sleep(Math.min(interval, remaining), signal);
    }
  }
}
