"""Runs a workflow with a client that is generated from `/openapi.json`; prints what it returned."""

from __future__ import annotations

import json
import sys
from uuid import UUID

from generated import AuthenticatedClient
from generated.api.asynchronous_runs import get_run, list_node_executions, submit_run
from generated.models import AcceptedRun, NodeExecutions, RunDetail, SubmitRunRequest, SubmitRunRequestInputs

url, key, app = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)
inputs = SubmitRunRequestInputs.from_dict({"query": "hello"})
accepted = submit_run.sync(UUID(app), client=client, body=SubmitRunRequest(inputs=inputs, user="me"))
assert isinstance(accepted, AcceptedRun), accepted
run = get_run.sync(accepted.workflow_run_id, client=client, wait=30)
assert isinstance(run, RunDetail), run
executions = list_node_executions.sync(run.id, client=client)
assert isinstance(executions, NodeExecutions), executions
outputs = run.outputs.to_dict() if run.outputs else None
json.dump([run.status.value, outputs, [node.node_type for node in executions.data]], sys.stdout)
