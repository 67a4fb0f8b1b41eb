import { DifyClient } from 'headrace-client';

const client = new DifyClient({ apiKey: 'your-api-key' });
const response = await client.createWorkflowRun({ workflowId: 'your-workflow-id', inputs: { text: 'Hello World' }, timeout: 300 });
const status = await client.getWorkflowRunStatus(response.workflow_run_id);
console.log(JSON.stringify({ status, ended: await client.wait(response, { polling: { first: 0.05 } }) }));
