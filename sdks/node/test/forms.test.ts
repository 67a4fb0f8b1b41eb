import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { WorkflowPausedEvent } from 'headrace-client';
import { Pauses, all, clientOf, faults } from './servers.js';
import type { Faults, Step } from './servers.js';

const RUN = '1c0e7d6a-2f6b-4b53-8a8a-51bdf0a6a0f1';
let fault: Faults;
before(async () => {
  fault = await faults();
});

const event = (name: string, data: object) => ({ event: name, task_id: 't', workflow_run_id: RUN, data });
const stream = (...events: object[]): Step => ({
  status: 200,
  headers: { 'Content-Type': 'text/event-stream' },
  body: events.map((sent) => `data: ${JSON.stringify(sent)}\n\n`).join(''),
});
const client = () => clientOf(fault, 'app-x', { ...new Pauses().options, user: 'abc' });

const FORM = {
  form_id: 'f',
  node_id: 'n',
  node_title: 'Review',
  form_content: 'Right?',
  inputs: [{ type: 'select', output_variable_name: 'p', option_source: { type: 'constant', value: ['a'] } }],
  actions: [{ id: 'approve', title: 'Approve', button_style: 'primary' }],
  form_token: 'secret',
  expiration_time: 1705494029,
};
const REQUIRED = event('human_input_required', FORM);
const PAUSED = event('workflow_paused', {
  paused_nodes: ['n'],
  reasons: [{ TYPE: 'human_input_required', ...FORM, form_token: null }],
  status: 'paused',
});
const FILLED = event('human_input_form_filled', { node_id: 'n', action_id: 'approve', submitted_data: {} });
const TIMEOUT = event('human_input_form_timeout', { node_id: 'n', expiration_time: 1705494029 });
const FINISHED = event('workflow_finished', { id: RUN, status: 'succeeded', outputs: { a: 1 } });

test('streams.forms-are-typed', async () => {
  await fault.script(stream(REQUIRED, FILLED, TIMEOUT, PAUSED));
  const run = client().streamWorkflow();
  const seen: unknown[] = [];
  for await (const received of run) {
    // each comparison narrows the type of `data`: the compiler checks this test
    if (received.event === 'human_input_required') {
      const { form_token, actions, inputs } = received.data;
      seen.push(form_token, actions[0]?.id, inputs[0]?.option_source?.value);
    } else if (received.event === 'human_input_form_filled') seen.push(received.data.action_id);
    else if (received.event === 'human_input_form_timeout') seen.push(received.data.expiration_time);
    else if (received.event === 'workflow_paused') seen.push(received.data.reasons[0]?.TYPE);
  }
  assert.deepEqual(seen, ['secret', 'approve', ['a'], 'approve', 1705494029, 'human_input_required']);
  assert.equal(run.run, null);
});

test('streams.cut-while-paused-ends-with-the-pause', async () => {
  const detail = { id: RUN, workflow_id: 'w', status: 'paused', outputs: '{}' };
  await fault.script(stream(event('workflow_started', { id: RUN })), { status: 200, body: detail });
  const events = await all(client().streamWorkflow());
  assert.deepEqual(
    events.map((received) => received.event),
    ['workflow_started', 'workflow_paused'],
  );
  const { data, synthesized } = events[1] as WorkflowPausedEvent;
  assert.deepEqual([synthesized, data.status, data.reasons], [true, 'paused', []]);
});

test('runs.events-of-a-paused-run', async () => {
  await fault.script(stream(PAUSED));
  const first = await all(client().streamWorkflowEvents(RUN, { includeStateSnapshot: true }));
  assert.deepEqual(first, [PAUSED]);
  const [request] = await fault.requests();
  assert.equal(request?.path, `/v1/workflow/${RUN}/events`);
  assert.deepEqual(request.query, { user: 'abc', include_state_snapshot: 'true' });

  const resumable = stream(PAUSED, FILLED);
  await fault.script({ ...resumable, body: `${resumable.body as string}id: 7\n\n` }, stream(FINISHED));
  const run = client().streamWorkflowEvents({ workflow_run_id: RUN }, { continueOnPause: true });
  assert.deepEqual(await all(run), [PAUSED, FILLED, FINISHED]);
  assert.deepEqual(run.run?.outputs, { a: 1 });
  const requests = await fault.requests();
  assert.deepEqual(
    requests.map(({ query }) => query['continue_on_pause']),
    ['true', 'true'],
  );
  assert.equal(requests[1]?.headers['last-event-id'], '7');
});
