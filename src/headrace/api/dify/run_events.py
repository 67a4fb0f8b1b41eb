"""A run's records as the events of Dify's stream.

Facts of the stream (recorded, Dify 1.12): an event is {event, workflow_run_id, task_id, data}; text comes before the
node_finished of the node that made it certain; a node that a stop cancels has no node_finished; a failure that a
strategy handles has the status `exception`. Versions after 1.12 send the reasoning of llm nodes that separate it
(`reasoning_format`) as `reasoning_chunk`, as it comes and beside the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, cast
from uuid import UUID, uuid5

from headrace.api.dify.container_events import ContainerEvents
from headrace.api.dify.run_responses import paused_nodes, run_outcome
from headrace.api.dify.schemas.events import (
    ExecutionMetadata,
    NodeExecutionIdentity,
    NodeFinishedData,
    NodeRetryData,
    NodeStartedData,
    ReasoningChunkData,
    TextChunkData,
    WorkflowFinishedData,
    WorkflowPausedData,
    WorkflowStartedData,
)
from headrace.api.dify.stream_position import START, StreamPosition
from headrace.api.http.json import Inputs, encode
from headrace.kernel.events import (
    THOUGHT,
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunId,
    RunPaused,
    RunQueued,
    RunResumed,
)
from headrace.kernel.graph_response import Said
from headrace.kernel.response_stream import Answer
from headrace.kernel.secrets import Mask
from headrace.kernel.status import node_status
from headrace.kernel.summary import RunSummary
from headrace.kernel.trace import NodeTrace, RunTrace
from headrace.node import Flow
from headrace.times import duration
from headrace.values import Value, files_in

_RECOVERED = RunResumed(recovered=True)
EventData = Mapping[str, Value]


class StreamEvent(NamedTuple):
    """An event for a client, and the position that it leads to."""

    event: str
    data: EventData
    position: StreamPosition


class RunEvents:
    """Folds a run's records, from its first, into the events after a position."""

    def __init__(self, run: RunId, flow: Flow, after: StreamPosition = START) -> None:
        self.run = run
        self.task = ""
        self._uuid = UUID(run)
        self._containers = ContainerEvents(flow.graph)
        # a response reads the environment directly, not from a record, so it is masked here
        env = Mask(flow.secrets).value(dict(flow.environment))
        self._answer = Answer(flow.graph, {"env": env}, thinking=True)
        self._after = after.seq
        self._skip = {0: after.sent, **dict(after.inside)}  # characters of each level
        self._summary = RunSummary(flow.graph)
        self._trace = RunTrace(flow.graph)

    def feed(self, record: Record) -> list[StreamEvent]:
        """The events of a record, which may have no number."""
        if record.seq is None and self._summary.seq < self._after:
            return []  # the journal brings it again
        at, sent = self._summary.seq, self._answer.unjournaled
        texts = self._answer.apply(record)
        self._on_text([text for text in texts if text.selector[1] != THOUGHT], record.at)
        self._summary.apply(record)
        own = list(self._events(record, self._trace.apply(record)))
        if record.seq is not None:
            if record.seq <= self._after:
                return []
            if isinstance(record.event, NodeRetried) or record.event == _RECOVERED:
                self._skip = {}  # text of the attempt before is no part of the next one's
        events: list[StreamEvent] = []
        # the end of a container comes before the text that it makes certain
        closes = isinstance(record.event, NodeSucceeded | NodeFailed) and self._containers.holds(record.event.path)
        if closes and record.seq is not None:
            known = self._skip.pop(record.seq, 0)
            for count, (name, data) in enumerate(own, 1):
                sent[record.seq] = count  # such a record begins no round, so its number is free to count its events
                if count > known:
                    events.append(StreamEvent(name, data, StreamPosition.beyond(at, sent)))
        for text, selector, level in texts:
            size = len(text) or 1  # the end of a thought counts as a character
            sent[level] = sent.get(level, 0) + size
            skip = self._skip.get(level, 0)
            if skip > size:
                self._skip[level] = skip - size
            else:
                self._skip.pop(level, None)
            if skip >= size:
                continue
            if selector[1] == THOUGHT:
                thought: ReasoningChunkData = {"reasoning": text[skip:], "node_id": selector[0], "is_final": not text}
                events.append(StreamEvent("reasoning_chunk", thought, StreamPosition.beyond(at, sent)))
            else:
                chunk: TextChunkData = {"text": text[skip:], "from_variable_selector": list(selector)}
                events.append(StreamEvent("text_chunk", chunk, StreamPosition.beyond(at, sent)))
        if not closes:
            events += [StreamEvent(name, data, StreamPosition.beyond(at, sent)) for name, data in own]
        if events:
            # only the last one leads past the record: a reader cut off before it needs the record again
            events[-1] = events[-1]._replace(
                position=StreamPosition.beyond(self._summary.seq, self._answer.unjournaled)
            )
        return events

    def _on_text(self, texts: Sequence[Said], at: float) -> None:
        """For dialects that need to know when text came; also of text that is skipped."""

    def encode(self, event: StreamEvent) -> bytes:
        """The JSON object of an event."""
        return encode({"event": event.event, "workflow_run_id": self.run, "task_id": self.task, "data": event.data})

    # ------------------------------------------------------------------------------------------------------- events

    def _events(self, record: Record, node: NodeTrace | None) -> Iterable[tuple[str, EventData]]:
        """The events of the record itself, without text. `node`: the one that the record is about."""
        if node is not None:
            return self._node_events(record, node)
        match record.event:
            case RunQueued() as event:
                self.task = event.task
                return [("workflow_started", self._workflow_started("initial"))]
            case RunPaused() as event:
                return [("workflow_paused", self._workflow_paused(event, record.at))]
            case RunResumed(recovered=False):
                return [("workflow_started", self._workflow_started("resumption"))]
            case RunEnded() as event:
                return [("workflow_finished", self._workflow_finished(event, record.at))]
            case _:
                pass
        return ()

    def _node_events(self, record: Record, node: NodeTrace) -> Iterable[tuple[str, EventData]]:
        container = self._containers.holds(node.path)
        match record.event:
            case NodeStarted() as event:
                if container:
                    return self._containers.started(event, record.at)
                return [("node_started", self._node_started(node))]
            case NodeSucceeded() | NodeFailed() as event:
                if container:
                    return self._containers.ended(node, event, record.at)
                return [("node_finished", self._node_finished(node, event, record.at))]
            case RoundStarted() as event:
                return self._containers.round(event, record.at)
            case NodeRetried() as event:
                return [("node_retry", self._node_retry(node, event, record.at))]
            case _:
                return ()

    def _workflow_started(self, reason: Literal["initial", "resumption"]) -> WorkflowStartedData:
        request = self._summary.request
        system = {f"sys.{name}": value for name, value in request.system.items() if name != "timestamp"}
        return {
            "id": self.run,
            "workflow_id": request.version,
            "inputs": {**request.inputs, **system},
            "created_at": int(self._summary.queued_at),
            "reason": reason,
        }

    def _workflow_finished(self, event: RunEnded, at: float) -> WorkflowFinishedData:
        request = self._summary.request
        return {
            **run_outcome(self._summary, event, at),
            "created_by": {"id": request.end_user, "user": request.user},
            "created_at": int(self._summary.queued_at),
            "finished_at": int(at),
            "exceptions_count": event.exceptions,
            "files": files_in(event.outputs),
        }

    def _workflow_paused(self, event: RunPaused, at: float) -> WorkflowPausedData:
        return {
            "workflow_run_id": self.run,
            "paused_nodes": paused_nodes(event),
            "outputs": {},
            "reasons": list(event.reasons),
            "status": "paused",
            "created_at": int(self._summary.queued_at),
            "elapsed_time": self._summary.elapsed_at(at),
            "total_tokens": self._summary.tokens,
            "total_steps": self._summary.steps,
        }

    def _node(self, node: NodeTrace) -> NodeExecutionIdentity:
        """The first fields of all events of a node. The id is derived from the path, so it need not be stored."""
        spec = self._containers.spec(node.path)
        return {
            "id": str(uuid5(self._uuid, node.path)),
            "node_id": spec.id,
            "node_type": spec.type,
            "title": spec.title,
            "index": node.leaf_index,
            "predecessor_node_id": node.predecessor,
        }

    def _node_started(self, node: NodeTrace) -> NodeStartedData:
        return {
            **self._node(node),
            "inputs": None,
            "inputs_truncated": False,
            "created_at": int(node.started_at),
            "extras": {},
            **self._containers.location(node.path),
            "agent_strategy": None,
        }

    def _node_finished(self, node: NodeTrace, event: NodeSucceeded | NodeFailed, at: float) -> NodeFinishedData:
        metadata: ExecutionMetadata = {**self._containers.metadata(event.path)}
        if isinstance(event, NodeFailed):
            if event.strategy is not None:
                metadata["error_strategy"] = event.strategy
            return self._node_ended(node, event, node_status(event), event.error, metadata, at)
        if usage := event.usage:
            metadata["total_tokens"] = usage["total_tokens"]
            metadata["total_price"] = usage["total_price"]
            metadata["currency"] = usage["currency"]
        return self._node_ended(node, event, node_status(event), None, metadata, at)

    def _node_retry(self, node: NodeTrace, event: NodeRetried, at: float) -> NodeRetryData:
        metadata: ExecutionMetadata = {**self._containers.metadata(event.path)}
        return {**self._node_ended(node, event, "retry", event.error, metadata, at), "retry_index": event.attempt}

    def _node_ended(
        self,
        node: NodeTrace,
        event: NodeSucceeded | NodeFailed | NodeRetried,
        status: Literal["succeeded", "failed", "exception", "retry"],
        error: str | None,
        metadata: ExecutionMetadata,
        at: float,
    ) -> NodeFinishedData:
        outputs: Mapping[str, Value] = {} if isinstance(event, NodeRetried) else event.outputs
        if of_node := self._containers.spec(node.path).metadata:
            metadata = {**cast("ExecutionMetadata", of_node), **metadata}
        return {
            **self._node(node),
            "inputs": Inputs(event.inputs),
            "inputs_truncated": False,
            "process_data": event.process,
            "process_data_truncated": False,
            "outputs": outputs,
            "outputs_truncated": False,
            "status": status,
            "error": error,
            "elapsed_time": duration(node.started_at, at),
            "execution_metadata": metadata or None,
            "created_at": int(node.started_at),
            "finished_at": int(at),
            "files": files_in(outputs),
            **self._containers.location(node.path),
        }
