import { DifyClient, HeadraceError, LocalFile, RateLimitError, RunFailedError, isEvent } from 'headrace-client';
import type { ChatEvent, ClientOptions, EventStream, WorkflowEvent, WorkflowRun } from 'headrace-client';

const options: ClientOptions = { apiKey: 'k', baseUrl: 'http://127.0.0.1:1', polling: { timeout: 60 }, maxRetries: 1 };
const client = new DifyClient(options);

export async function run(signal: AbortSignal): Promise<string> {
  const created = await client.createWorkflowRun({ workflowId: 'w', inputs: { text: 'x' }, timeout: 300, signal });
  const id: string = created.workflow_run_id;
  const status: WorkflowRun = await client.getWorkflowRunStatus(id);
  const ended = await client.wait(created, { signal, raiseOnFailure: true });
  const answer: unknown = ended.outputs?.['answer'];
  const unknown: unknown = status['a field of tomorrow'];
  return `${status.status} ${String(answer)} ${String(unknown)}`;
}

export async function tell(): Promise<string> {
  const stream: EventStream<WorkflowEvent> = client.streamWorkflow({ inputs: { doc: new LocalFile('a.pdf') } });
  let text = '';
  for await (const event of stream) {
    const name: string = event.event;
    switch (event.event) {
      case 'text_chunk':
        text += event.data.text;
        break;
      case 'node_finished':
        text += `${event.data.title}: ${event.data.status} in ${event.data.elapsed_time} s`;
        break;
      case 'workflow_finished':
        text += `${event.data.status} ${event.synthesized === true ? 'found out later' : ''}`;
        break;
      case 'error':
        throw new Error(event.message);
      default:
        if (isEvent(event, 'iteration_next')) text += event.data.index ?? 0;
        else if (isEvent(event, 'event_of_tomorrow')) text += name;
    }
    // @ts-expect-error: an event is not of two kinds
    if (event.event === 'text_chunk') text += event.data.elapsed_time.toFixed();
  }
  return text;
}

export async function chat(): Promise<string> {
  let answer = '';
  const stream: AsyncIterable<ChatEvent> = client.streamChatMessage({ query: 'hi' });
  for await (const event of stream) if (event.event === 'message') answer += event.answer;
  for await (const message of client.listMessages('c')) answer += message.answer;
  for await (const page of client.listWorkflowLogs({ status: 'failed' }).pages()) answer += page.data.length;
  return answer;
}

export async function knowledge(): Promise<string> {
  const written = await client.datasets.createDocumentByText('d', { name: 'pump', text: 'x', docForm: 'text_model' });
  const [status] = await client.datasets.waitUntilIndexed('d', written, { raiseOnFailure: true });
  let text: string = status?.indexing_status ?? '';
  for await (const dataset of client.datasets.listDatasets({ keyword: 'x' })) text += dataset.name;
  const { records } = await client.datasets.retrieve('d', { query: 'pump' });
  return text + records.map(({ segment }) => segment.content).join();
}

export function explain(error: unknown): string {
  if (error instanceof RateLimitError) return `wait ${error.retryAfter ?? 1} s`;
  if (error instanceof RunFailedError) return `${error.node?.title ?? 'it'} failed: ${error.message}`;
  if (error instanceof HeadraceError) return `${error.status} ${error.code} ${error.requestId} ${error.runId}`;
  return String(error);
}

// @ts-expect-error: a chat needs a query
void client.sendChatMessage({});
// @ts-expect-error: a run's inputs are an object
void client.runWorkflow({ inputs: 'text' });
