"""A run's records as the events of Dify's stream.

Facts of the stream (recorded, Dify 1.12): an event is {event, workflow_run_id, task_id, data}; text comes before the
node_finished of the node that made it certain; a node that a stop cancels has no node_finished; a failure that a
strategy handles has the status `exception`. Versions after 1.12 send the reasoning of llm nodes that separate it
(`reasoning_format`) as `reasoning_chunk`, as it comes and beside the text.

Every event has the position that its reader has reached: a sequence number, and how many characters were sent beyond
the journal up to that number. A reader that resumes at a position gets everything after it and nothing twice: records
up to the number are folded without sending, and that many characters are skipped. Rounds that run in parallel have no
order among them, so characters are counted by round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, cast
from uuid import UUID, uuid5

from headrace.api.dify.container_events import container_events, round_location, round_metadata
from headrace.api.dify.form_events import form_events
from headrace.api.dify.schemas.events import (
    AgentLogData,
    ExecutionMetadata,
    NodeExecutionIdentity,
    NodeFinishedData,
    NodeRetryData,
    NodeStartedData,
    ReasoningChunkData,
    RoundLocation,
    TextChunkData,
    WorkflowFinishedData,
    WorkflowPausedData,
    WorkflowStartedData,
)
from headrace.api.dify.schemas.runs import RunOutcome
from headrace.api.http.responses import Inputs, encode
from headrace.errors import InvalidParam
from headrace.kernel.events import (
    REASONING,
    FormEvent,
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunPaused,
    RunQueued,
    RunResumed,
    StepEnded,
    StepStarted,
)
from headrace.kernel.graph import is_top_level, node_of
from headrace.kernel.graph_response import TextChunk
from headrace.kernel.response import ResponseStream
from headrace.kernel.steps import Step, is_hidden
from headrace.kernel.summary import RunLifecycle, RunSummary, duration, node_status
from headrace.kernel.trace import NodeTrace, RunTrace
from headrace.node import Flow
from headrace.nodes.step_log import log_entry
from headrace.values import Value, files_in

_RECOVERED = RunResumed(recovered=True)
_TOP_LEVEL: RoundLocation = {"iteration_id": None, "loop_id": None}
EventData = Mapping[str, Value]
_POSITION = re.compile(r"(\d{1,18})(?::(\d{1,18}))?((?:\+\d{1,18}:\d{1,18})*)")


class StreamPosition(NamedTuple):
    """How far a reader has come: all records up to `seq`, and `sent` characters beyond them. `inside` counts those of
    rounds, as (the number of the round's first record, characters), and the events of a record that ends a node, as
    (its number, events)."""

    seq: int = 0
    sent: int = 0
    inside: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        rounds = "".join(f"+{number}:{sent}" for number, sent in self.inside)
        return f"{self.seq}:{self.sent}{rounds}" if self.sent else f"{self.seq}{rounds}"

    @classmethod
    def beyond(cls, seq: int, sent: Mapping[int, int]) -> StreamPosition:
        """The position past a record and so many characters of each level (see `graph_response.Said`)."""
        return cls(seq, sent.get(0, 0), tuple(item for item in sorted(sent.items()) if item[0]))

    @classmethod
    def parse(cls, text: str) -> StreamPosition:
        """The position that an SSE id names. InvalidParam where it is malformed."""
        match = _POSITION.fullmatch(text.strip()) if text.isascii() else None
        if match is None:
            raise InvalidParam(f"Last-Event-ID must be an id of this stream, like 12 or 12:34, not {text[:50]!r}")
        pairs = (pair.split(":") for pair in match[3].split("+")[1:])
        return cls(int(match[1]), int(match[2] or 0), tuple((int(number), int(sent)) for number, sent in pairs))


START = StreamPosition()


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
        self._graph = flow.graph
        self._nodes = flow.nodes
        self.texts: Sequence[TextChunk] = ()  # that the last record added
        self._answer = ResponseStream(flow.graph, {"env": flow.masked_environment}, reasoning=True)
        self._after = after.seq
        self._skip = {0: after.sent, **dict(after.inside)}  # characters of each level
        self._summary = RunSummary(flow.graph)
        self._trace = RunTrace(flow.graph)

    def feed(self, record: Record) -> list[StreamEvent]:
        """The events of a record, which may have no number."""
        self.texts = ()
        if record.seq is None and self._summary.seq < self._after:
            return []  # the journal delivers it again
        at, sent = self._summary.seq, self._answer.unjournaled
        texts = self.texts = self._answer.apply(record)
        self._summary.apply(record)
        own = list(self._events(record, self._trace.apply(record)))
        # the end of a container comes before the text that it makes certain
        closes = isinstance(record.event, NodeSucceeded | NodeFailed) and self._graph.is_container(record.event.path)
        # a record that ends a node begins no round, so its number is free to count its events
        counter = record.seq if closes or len(own) > 1 else None
        own_sent = 0
        if record.seq is not None:
            if record.seq <= self._after:
                return []
            own_sent = 0 if counter is None else self._skip.pop(counter, 0)
            if isinstance(record.event, NodeRetried) or record.event == _RECOVERED:
                self._skip = {}  # the next attempt does not continue the text of this one
        events: list[StreamEvent] = []
        if closes:
            events += _own_events(own, at, sent, counter)[own_sent:]
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
            if selector[1] == REASONING:
                reasoning: ReasoningChunkData = {"reasoning": text[skip:], "node_id": selector[0], "is_final": not text}
                events.append(StreamEvent("reasoning_chunk", reasoning, StreamPosition.beyond(at, sent)))
            else:
                chunk: TextChunkData = {"text": text[skip:], "from_variable_selector": list(selector)}
                events.append(StreamEvent("text_chunk", chunk, StreamPosition.beyond(at, sent)))
        if not closes:
            events += _own_events(own, at, sent, counter)[own_sent:]
        if events:
            # only the last one leads past the record: a reader cut off before it needs the record again
            events[-1] = events[-1]._replace(
                position=StreamPosition.beyond(self._summary.seq, self._answer.unjournaled)
            )
        return events

    def encode(self, event: StreamEvent) -> bytes:
        """The JSON object of an event."""
        return encode({"event": event.event, "workflow_run_id": self.run, "task_id": self.task, "data": event.data})

    # ------------------------------------------------------------------------------------------------------- events

    def _events(self, record: Record, node: NodeTrace | None) -> Iterable[tuple[str, EventData]]:
        """The events of the record itself, without text. `node`: the one that the record is about."""
        at = record.at
        if node is not None and self._graph.is_container(node.path):
            yield from container_events(self._graph, record, node)
            return
        if node is not None and isinstance(record.event, NodeFailed | NodeRetried):
            for step in node.failed_steps:
                if not is_hidden(step.name):
                    yield "agent_log", self._agent_log(node, step)
        match record.event:
            case RunQueued() as event:
                self.task = event.task
                yield "workflow_started", self._workflow_started("initial")
            case RunPaused() as event:
                yield "workflow_paused", self._workflow_paused(event, at)
            case RunResumed(recovered=False):
                yield "workflow_started", self._workflow_started("resumption")
            case RunEnded() as event:
                yield "workflow_finished", self._workflow_finished(event, at)
            case NodeStarted() if node is not None:
                yield "node_started", self._node_started(node)
            case NodeSucceeded() | NodeFailed() as event if node is not None:
                yield "node_finished", self._node_ended(node, event, at)
            case NodeRetried() as event if node is not None:
                data: NodeRetryData = {**self._node_ended(node, event, at), "retry_index": event.attempt}
                yield "node_retry", data
            case StepStarted(name=name) | StepEnded(name=name) if node is not None and not is_hidden(name):
                yield "agent_log", self._agent_log(node, node.steps[name])
            case event:
                if isinstance(event, FormEvent) and node is not None and node.form is not None:
                    yield from form_events(node.form)

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
        spec = self._graph.spec_of(node.path)
        return {
            "id": str(uuid5(self._uuid, node.path)),
            "node_id": spec.id,
            "node_type": spec.type,
            "title": spec.title,
            "index": node.leaf_index,
            "predecessor_node_id": node.predecessor,
        }

    def _node_started(self, node: NodeTrace) -> NodeStartedData:
        metadata = cast("ExecutionMetadata", self._graph.spec_of(node.path).metadata)
        strategy = metadata.get("tool_info", {}).get("agent_strategy")
        return {
            **self._node(node),
            "inputs": None,
            "inputs_truncated": False,
            "created_at": int(node.started_at),
            "extras": {},
            **(_TOP_LEVEL if is_top_level(node.path) else round_location(self._graph, node.path)),
            "agent_strategy": None if strategy is None else {"name": strategy, "icon": None},
        }

    def _node_ended(
        self, node: NodeTrace, event: NodeSucceeded | NodeFailed | NodeRetried, at: float
    ) -> NodeFinishedData:
        """The data of node_finished, and of node_retry without its index."""
        outputs: Mapping[str, Value] = {} if isinstance(event, NodeRetried) else event.outputs
        metadata: ExecutionMetadata = {**cast("ExecutionMetadata", self._graph.spec_of(node.path).metadata)}
        if not is_top_level(node.path):
            metadata = {**metadata, **round_metadata(self._graph, node.path)}
        if isinstance(event, NodeFailed) and event.strategy is not None:
            metadata["error_strategy"] = event.strategy
        elif isinstance(event, NodeSucceeded) and (usage := event.usage):
            metadata["total_tokens"] = usage["total_tokens"]
            metadata["total_price"] = usage["total_price"]
            metadata["currency"] = usage["currency"]
        if steps := [step for step in node.steps.values() if not is_hidden(step.name)]:
            type_ = self._nodes[node_of(node.path)]
            metadata["agent_log"] = [log_entry(type_, step, repeated=True) for step in steps]
        return {
            **self._node(node),
            "inputs": Inputs(event.inputs),
            "inputs_truncated": False,
            "process_data": event.process,
            "process_data_truncated": False,
            "outputs": outputs,
            "outputs_truncated": False,
            "status": "retry" if isinstance(event, NodeRetried) else node_status(event),
            "error": None if isinstance(event, NodeSucceeded) else event.error,
            "elapsed_time": duration(node.started_at, at),
            "execution_metadata": metadata or None,
            "created_at": int(node.started_at),
            "finished_at": int(at),
            "files": files_in(outputs),
            **(_TOP_LEVEL if is_top_level(node.path) else round_location(self._graph, node.path)),
        }

    def _agent_log(self, node: NodeTrace, step: Step) -> AgentLogData:
        """A step of a node, when it starts and when it has ended."""
        id_ = node_of(node.path)
        execution = str(uuid5(self._uuid, node.path))
        return {**log_entry(self._nodes[id_], step), "node_execution_id": execution, "node_id": id_}


def _own_events(
    own: Sequence[tuple[str, EventData]], at: int, sent: dict[int, int], counter: int | None
) -> list[StreamEvent]:
    """The events of a record beside its text. `sent` counts them under the number `counter`, if it is given."""
    events: list[StreamEvent] = []
    for count, (name, data) in enumerate(own, 1):
        if counter is not None:
            sent[counter] = count
        events.append(StreamEvent(name, data, StreamPosition.beyond(at, sent)))
    return events


def run_outcome(run: RunLifecycle, end: RunEnded, at: float) -> RunOutcome:
    """What a blocking response and workflow_finished have in common."""
    return {
        "id": run.run,
        "workflow_id": run.request.version,
        "status": end.status,
        "outputs": end.outputs,
        "error": end.error,
        "elapsed_time": run.elapsed_at(at),
        "total_tokens": end.tokens,
        "total_steps": end.steps,
    }


def paused_nodes(pause: RunPaused) -> list[str]:
    """The nodes that wait for a person."""
    return [reason["node_id"] for reason in pause.reasons if "node_id" in reason]
