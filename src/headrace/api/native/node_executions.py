"""The executions of a run's nodes, folded from its records."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from headrace.api.dify.container_events import round_metadata
from headrace.api.http.responses import Inputs
from headrace.api.native.execution_filter import ALL, ExecutionFilter
from headrace.api.native.schemas.executions import ContainerRounds, NodeAttempt, NodeExecution
from headrace.kernel.events import (
    Delta,
    FormExpired,
    FormRequested,
    FormSubmitted,
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
)
from headrace.kernel.graph import Path, node_of
from headrace.kernel.steps import is_hidden
from headrace.kernel.summary import (
    PAUSED,
    RUNNING,
    STOPPED,
    RunSummary,
    UsageTotal,
    duration,
    model_cost,
    model_of,
    node_status,
)
from headrace.kernel.trace import NodeTrace, RunTrace
from headrace.node import Flow
from headrace.nodes.step_log import log_entry
from headrace.runs.reader import RunView
from headrace.times import milliseconds, whole_seconds


def executions(view: RunView, execution_filter: ExecutionFilter = ALL) -> list[NodeExecution]:
    """The nodes of a run that have started, in order of their start; those inside containers once a round, with the
    innermost iteration and loop they are in and the index of its round.

    One that was running when the run ended is `stopped`; `exception` is a failure that the node's error strategy
    handled. `reused`: copied from the run that this one is a retry of.
    """
    builder = _Executions(view.release.flow, UUID(view.records[0].run), execution_filter)
    for record in view.records:
        builder.apply(record)
    return builder.finished()


class _Executions:
    """Folds a run's records into the executions of its nodes, by path."""

    def __init__(self, flow: Flow, run: UUID, execution_filter: ExecutionFilter) -> None:
        self.executions: dict[Path, NodeExecution] = {}
        self._flow = flow
        self._filter = execution_filter
        graph = self._graph = flow.graph
        self._run = run
        self._summary = RunSummary(graph)
        self._trace = RunTrace(graph)
        self._first: dict[Path, float] = {}  # when a node's first text came

    def apply(self, record: Record) -> None:
        self._summary.apply(record)
        node = self._trace.apply(record)
        match record.event:
            case NodeStarted():
                assert node is not None
                self._start(node)
            case NodeRetried() as event if event.path in self.executions:
                attempt: NodeAttempt = {
                    "attempt": event.attempt,
                    "error": event.error,
                    "error_type": event.kind,
                    "inputs": Inputs(event.inputs),
                    "process_data": event.process,
                    "finished_at": whole_seconds(record.at),
                    "finished_at_ms": milliseconds(record.at),
                }
                self.executions[event.path]["attempts"].append(attempt)
            case NodeSucceeded() | NodeFailed() as event:
                assert node is not None
                self._end(node, event, record.at)
            case FormRequested(path):
                self._mark(path, PAUSED)
            case FormSubmitted(path) | FormExpired(path):
                self._mark(path, RUNNING)
            case Delta(path):
                self._first.setdefault(path, record.at)
            case RunEnded():
                for node in self._trace.stop(record.at):
                    self._finish(node, STOPPED, record.at)
            case _:
                pass

    def _mark(self, path: Path, status: str) -> None:
        """The node waits for a person, or no longer does."""
        if path in self.executions:
            self.executions[path]["status"] = status

    def _start(self, node: NodeTrace) -> NodeExecution | None:
        if not self._filter.accepts(node.path):
            return None
        spec, rounds = self._graph.spec_of(node.path), round_metadata(self._graph, node.path)
        execution: NodeExecution = {
            "id": str(uuid5(self._run, node.path)),
            "node_id": spec.id,
            "node_type": spec.type,
            "title": spec.title,
            "index": node.index,
            "predecessor_node_id": node.predecessor,
            "iteration_id": rounds.get("iteration_id"),
            "iteration_index": rounds.get("iteration_index"),
            "loop_id": rounds.get("loop_id"),
            "loop_index": rounds.get("loop_index"),
            "status": RUNNING,
            "inputs": None,
            "process_data": None,
            "outputs": None,
            "error": None,
            "error_type": None,
            "attempts": [],
            "reused": self._summary.request.retry_of is not None and node.started_at < self._summary.queued_at,
            "usage": None,
            "started_at": whole_seconds(node.started_at),
            "finished_at": None,
            "elapsed_time": None,
            "started_at_ms": milliseconds(node.started_at),
            "finished_at_ms": None,
        }
        self.executions[node.path] = execution
        return execution

    def _finish(self, node: NodeTrace, status: str, at: float) -> None:
        execution = self.executions.get(node.path)
        if execution is None:  # not wanted
            return
        self._include(execution, node)
        execution["status"] = status
        execution["finished_at"], execution["finished_at_ms"] = whole_seconds(at), milliseconds(at)
        execution["elapsed_time"] = duration(node.started_at, at)

    def _end(self, node: NodeTrace, event: NodeSucceeded | NodeFailed, at: float) -> None:
        # a container that cannot begin fails before it starts
        execution = self.executions.get(node.path) or self._start(node)
        if execution is None:
            return
        execution["inputs"] = Inputs(event.inputs)
        execution["process_data"], execution["outputs"] = event.process, event.outputs
        self._finish(node, node_status(event), at)
        if isinstance(event, NodeFailed):
            execution["error"], execution["error_type"] = event.error, event.kind
        elif event.usage:
            total = UsageTotal()
            total.add(event.usage)
            execution["usage"] = total.body()
            if "cost" in self._filter.include:
                provider, model = model_of(self._graph.spec_of(node.path), event)
                execution["cost"] = model_cost(provider, model, str(event.usage.get("currency") or "USD"), total)

    def _include(self, execution: NodeExecution, node: NodeTrace) -> None:
        """What the request asks for of a node that has ended, or still runs."""
        include = self._filter.include
        if "rounds" in include:
            execution["path"] = node.path
            execution["rounds"] = _rounds(node) if self._graph.is_container(node.path) else None
        if "agent_log" in include:
            type_ = self._flow.nodes[node_of(node.path)]
            steps = [step for step in node.steps.values() if not is_hidden(step.name)]
            execution["agent_log"] = [log_entry(type_, step, repeated=True) for step in steps]
        if "first_token" in include:
            first = self._first.get(node.path)
            execution["first_token"] = None if first is None else duration(node.started_at, first)

    def finished(self) -> list[NodeExecution]:
        """The executions, after the last record."""
        for node in self._trace.running.values():
            if (execution := self.executions.get(node.path)) is not None:
                self._include(execution, node)
        for execution in self.executions.values():
            if "cost" in self._filter.include:
                execution.setdefault("cost", None)
            if "messages" in self._filter.include:
                process: dict[str, Any] = execution["process_data"] or {}
                prompts: Any = process.get("prompts")
                execution["messages"] = prompts if isinstance(prompts, list) else []
        return list(self.executions.values())


def _rounds(container: NodeTrace) -> ContainerRounds:
    rounds = [container.rounds[index] for index in sorted(container.rounds)]
    return {
        "count": len(rounds),
        "failed": [index for index in sorted(container.rounds) if container.rounds[index].failed],
        "durations": [duration(round_.started_at, round_.ended_at) for round_ in rounds],
    }
