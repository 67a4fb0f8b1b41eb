// Runs a workflow with a client whose types are generated from /openapi.json; prints what it returned.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const [url, key, app] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

const submitted = await client.POST("/api/v1/workflows/{workflow_id}/run", {
  params: { path: { workflow_id: app } },
  body: { inputs: { query: "hello" }, user: "me" },
});
if (submitted.error) throw new Error(submitted.error.message);
const accepted = submitted.data;
if (typeof accepted === "string" || !("workflow_run_id" in accepted)) throw new Error("the run was not accepted");

const path = { workflow_run_id: accepted.workflow_run_id };
const ended = await client.GET("/api/v1/workflow-runs/{workflow_run_id}", { params: { path, query: { wait: 30 } } });
if (ended.error) throw new Error(ended.error.message);
const run: components["schemas"]["RunDetail"] = ended.data;

const nodes = await client.GET("/api/v1/workflow-runs/{workflow_run_id}/node-executions", { params: { path } });
if (nodes.error) throw new Error(nodes.error.message);

console.log(JSON.stringify([run.status, run.outputs, nodes.data.data.map((node) => node.node_type)]));
