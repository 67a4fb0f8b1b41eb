/** A chat with an app. Messages are submitted first and their runs followed then, so that no lost connection, no reload
 * and no change of the conversation loses an answer. */

import { computed, onScopeDispose, ref, watch } from 'vue';
import type { Connection } from '@ui/sse';
import { toast } from '@ui/toast';
import { ApiError, call, follow } from '../../api';
import { hasEnded, type Run } from '../../model';
import { current, setQuery } from '../../router';
import { USER } from '../app/app-run';
import { fileReference, type Uploaded } from '../app/values';
import { apply, goesOn, newTurn, pastTurn, settle, type ChatEvent, type PastMessage, type Rating, type Turn } from './turns';

const PAGE = 20;

interface Accepted {
  workflow_run_id: string;
  conversation_id: string;
}

interface MessagePage {
  data: PastMessage[];
  has_more: boolean;
}

interface ChatOptions {
  app: string;
  suggests: boolean; // the app suggests questions after an answer
  onChange: () => void; // the list of conversations is no longer right
}

export function useChat({ app, suggests, onChange }: ChatOptions) {
  const conversation = computed(() => current.value.query.get('conversation'));
  const turns = ref<Turn[]>([]);
  const hasEarlier = ref(false);
  const suggestions = ref<string[]>([]);
  const error = ref('');
  const connection = ref<Connection>('open');
  const busy = computed(() => goesOn(turns.value.at(-1)));
  const headers = { 'Headrace-App': app };
  let shown: string | null = null; // the conversation of the turns
  let stop = new AbortController();
  onScopeDispose(() => stop.abort());

  async function open(): Promise<void> {
    stop.abort();
    const { signal } = (stop = new AbortController());
    shown = conversation.value;
    turns.value = [];
    suggestions.value = [];
    hasEarlier.value = false;
    error.value = '';
    if (!shown) return;
    try {
      await loadEarlier(signal);
      const last = turns.value.at(-1);
      if (last) await resume(last, signal);
    } catch (failure) {
      report(failure, signal);
    }
  }

  function report(failure: unknown, signal: AbortSignal): void {
    if (signal.aborted) return;
    if (!(failure instanceof ApiError)) throw failure;
    error.value = failure.message;
  }

  async function loadEarlier(signal = stop.signal): Promise<void> {
    const query = { user: USER, conversation_id: shown, first_id: turns.value[0]?.id, limit: PAGE };
    const page = await call<MessagePage>(`/apps/${app}/v1/messages`, { query, signal });
    turns.value.unshift(...page.data.map(pastTurn));
    hasEarlier.value = page.has_more;
  }

  /** The list does not say whether a message is still being answered; its run does. */
  async function resume(turn: Turn, signal: AbortSignal): Promise<void> {
    const run = await call<Run>(`/workflow-runs/${turn.id}`, { headers, signal });
    settle(turn, run);
    if (!hasEnded(run.status)) await followTurn(turn, signal);
  }

  let unanswered = { body: '', key: '' };

  /** A message that is sent again because no response came has the same key, so that the server takes it only once. */
  function idempotencyKey(json: unknown): string {
    const body = JSON.stringify(json);
    if (body !== unanswered.body) unanswered = { body, key: crypto.getRandomValues(new Uint32Array(4)).join('-') };
    return unanswered.key;
  }

  /** Throws an ApiError where the server does not accept the message. */
  async function send(query: string, inputs: Record<string, unknown>, files: Uploaded[]): Promise<void> {
    const { signal } = stop;
    const json = {
      query,
      inputs,
      files: files.map(fileReference),
      user: USER,
      conversation_id: conversation.value ?? '',
    };
    turns.value.push(newTurn(query, inputs, files));
    const turn = turns.value.at(-1)!;
    suggestions.value = [];
    let accepted: Accepted;
    try {
      const keyed = { ...headers, 'Idempotency-Key': idempotencyKey(json) };
      accepted = await call<Accepted>(`/workflows/${app}/run`, { json, headers: keyed, signal });
      unanswered.body = '';
    } catch (failure) {
      if (!signal.aborted) turns.value.pop();
      else if (!(failure instanceof ApiError)) return;
      throw failure;
    }
    turn.id = accepted.workflow_run_id;
    if (shown !== accepted.conversation_id) {
      shown = accepted.conversation_id;
      setQuery({ conversation: shown });
    }
    onChange();
    void followTurn(turn, signal);
  }

  /** The stream is read from its start, since only it has the answer as it came. */
  async function followTurn(turn: Turn, signal: AbortSignal): Promise<void> {
    Object.assign(turn, { answer: '', answerFiles: [], thoughts: [], logs: [] });
    const path = `/workflow-runs/${turn.id}`;
    const options = { signal, headers, onConnection: (now: Connection) => (connection.value = now) };
    try {
      for await (const event of follow(`${path}/events`, options, { continue_on_pause: 'true' })) {
        if (apply(turn, JSON.parse(event.data) as ChatEvent)) break;
      }
      if (signal.aborted) return;
      settle(turn, await call<Run>(path, { headers, signal }));
      onChange();
      if (suggests && turn.state === 'succeeded') await suggest(turn, signal);
    } catch (failure) {
      if (goesOn(turn) && !signal.aborted) turn.state = 'failed';
      report(failure, signal);
    }
  }

  async function suggest(turn: Turn, signal: AbortSignal): Promise<void> {
    const path = `/apps/${app}/v1/messages/${turn.id}/suggested`;
    const { data } = await call<{ data: string[] }>(path, { query: { user: USER }, signal });
    if (turns.value.at(-1) === turn) suggestions.value = data;
  }

  async function cancel(): Promise<void> {
    const turn = turns.value.at(-1);
    if (!turn?.id || !goesOn(turn)) return;
    await attempt(() => call(`/workflow-runs/${turn.id}/stop`, { method: 'POST', headers }));
  }

  /** A second click on a rating takes it back. */
  async function rate(turn: Turn, rating: Rating): Promise<void> {
    const next = turn.rating === rating ? null : rating;
    const json = { rating: next, user: USER };
    const done = await attempt(() => call(`/apps/${app}/v1/messages/${turn.id}/feedbacks`, { json }));
    if (done) turn.rating = next;
  }

  async function attempt(action: () => Promise<unknown>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      toast(failure.message);
      return false;
    }
  }

  watch(conversation, (id) => id !== shown && void open());
  void open();

  const earlier = () => attempt(() => loadEarlier());
  return { conversation, turns, hasEarlier, suggestions, error, connection, busy, reload: open, earlier, send, cancel, rate };
}
