"""New runs that begin with what others have done: a retry, and a run again from one of its nodes on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.ids import new_id, new_run_id
from headrace.kernel.events import NodeSucceeded, Record, RunEnded, RunId, RunQueued
from headrace.kernel.graph import NodeId
from headrace.kernel.retry import following, fork
from headrace.runs.service import RunService, SubmittedRun, last_event
from headrace.values import Value

Outputs = Mapping[NodeId, Mapping[str, Value]]


async def retry(run_service: RunService, run: RunId, new: RunId | None = None, key: str | None = None) -> SubmittedRun:
    """Queues a new run (`new` is its id, see `RunService.submit`) that copies the finished nodes of a failed or stopped
    one and continues from there, with the same version and inputs. `key` is the principal that submits it. NotFound for
    an unknown run; 409 `not_retryable` for one that has not ended, or has succeeded."""
    records = await _records(run_service, run)
    end = last_event(records)
    if not isinstance(end, RunEnded) or end.status not in ("failed", "stopped"):
        raise RequestError("Only a run that failed or was stopped can be retried.", "not_retryable", 409)
    return await _forked(run_service, records, new, key)


async def run_again(
    run_service: RunService,
    run: RunId,
    node: NodeId,
    outputs: Outputs,
    new: RunId | None = None,
    key: str | None = None,
) -> SubmittedRun:
    """As `retry`, for any run that has ended: `node` and what follows it run again, and `outputs` replace those of
    nodes that do not. 409 `not_ended`; InvalidParam where a node is not at the top level, or did not finish."""
    records = await _records(run_service, run)
    if not isinstance(last_event(records), RunEnded):
        raise RequestError("Only a run that has ended can run again.", "not_ended", 409)
    request = _request(records)
    graph = (await run_service.apps.flow(request.app, request.version)).graph
    if node not in graph.nodes:
        raise InvalidParam(f"node_id: {node[:50]!r} is not a node of the top level")
    again = following(graph, node)
    finished_paths = {record.event.path for record in records if isinstance(record.event, NodeSucceeded)}
    if unknown := outputs.keys() - (finished_paths - again):
        raise InvalidParam(f"outputs: {min(unknown)[:50]!r} is not a node that succeeded and does not run again")
    return await _forked(run_service, records, new, key, again, outputs)


async def _records(run_service: RunService, run: RunId) -> Sequence[Record]:
    records = await run_service.environment.journal.read(run)
    if not records:
        raise NotFound(f"Workflow run not found with id: {run}")
    return records


def _request(records: Sequence[Record]) -> RunQueued:
    request = records[0].event
    assert isinstance(request, RunQueued)
    return request


async def _forked(
    run_service: RunService,
    records: Sequence[Record],
    new: RunId | None,
    key: str | None,
    again: Collection[NodeId] = (),
    outputs: Outputs | None = None,
) -> SubmittedRun:
    now = run_service.environment.clock()
    old, known, new = _request(records), new is not None, new or new_run_id(now)
    new_request = replace(
        old,
        task=new_id(),
        system={**old.system, "workflow_run_id": new, "timestamp": int(now)},
        source="service-api",  # a batch counts only the runs of its lines
        retry_of=records[0].run,
        key=key,
        replay_of=None,
    )
    return await run_service.begin(fork(records, new, now, new_request, again, outputs), known=known)
