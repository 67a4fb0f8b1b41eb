"""A run's records as the events of Dify's stream. This file and `bodies` are the only ones that know Dify's names.

Facts of the stream (recorded, Dify 1.12): an event is {event, workflow_run_id, task_id, data}; text comes before the
node_finished of the node that made it certain; a node that is cancelled by a stop has no node_finished; a failure that
a strategy handles has the status `exception`. Later versions than 1.12 tell the thinking of llm nodes that separate it
(`reasoning_format`) as `reasoning_chunk`, at once and beside the text.

**Places.** Every frame carries the place in the run that its reader has come to: a sequence number, and how many
characters were told beyond what the journal up to that number gives. Whoever comes back with a place is told all that
follows it, and nothing twice: records up to the number are folded in silence, and that many characters skipped. What
rounds say at once has no order among them, so characters are counted round by round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID, uuid5

from headrace.api.dify.container_events import ContainerEvents
from headrace.api.dify.run_responses import outcome, seconds
from headrace.api.http.json import Inputs, encode
from headrace.errors import InvalidParam
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
    RunStarted,
)
from headrace.kernel.graph_response import Said
from headrace.kernel.path import Path, is_top_level
from headrace.kernel.response_stream import Answer
from headrace.kernel.secrets import Mask
from headrace.kernel.usage import count_of, sum_of
from headrace.node import Flow
from headrace.values import Value, files_in

_TAKEN_UP = RunResumed(recovered=True)
_PLACE = re.compile(r"(\d{1,18})(?::(\d{1,18}))?((?:\+\d{1,18}:\d{1,18})*)")


class StreamPosition(NamedTuple):
    """How far a reader has come: all records up to `seq`, and `told` characters of what follows them; `inside` are
    those of rounds: (the number that the round began with, characters), and of the record that ends a container: (its
    number, events)."""

    seq: int = 0
    told: int = 0
    inside: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        rounds = "".join(f"+{number}:{told}" for number, told in self.inside)
        return f"{self.seq}:{self.told}{rounds}" if self.told else f"{self.seq}{rounds}"

    @classmethod
    def beyond(cls, seq: int, told: Mapping[int, int]) -> StreamPosition:
        """The place past a record and so many characters of each level (see `kernel.answer.Said`)."""
        return cls(seq, told.get(0, 0), tuple(each for each in sorted(told.items()) if each[0]))

    @classmethod
    def parse(cls, text: str) -> StreamPosition:
        """The place that an SSE id names. InvalidParam where it is none of ours."""
        found = _PLACE.fullmatch(text.strip()) if text.isascii() else None
        if found is None:
            raise InvalidParam(f"Last-Event-ID must be an id of this stream, like 12 or 12:34, not {text[:50]!r}")
        pairs = (each.split(":") for each in found[3].split("+")[1:])
        return cls(int(found[1]), int(found[2] or 0), tuple((int(number), int(told)) for number, told in pairs))


START = StreamPosition()


class StreamEvent(NamedTuple):
    """One event for a client, and the place it leads to."""

    event: str
    data: dict[str, Value]
    place: StreamPosition


@dataclass(slots=True)
class _Begun:
    """A node that has started: the how manyeth, when, and by whose end."""

    index: int
    at: float
    predecessor: str | None


class RunEvents:
    """Folds one run's records, from its first, into frames: those after `after` only."""

    def __init__(self, run: RunId, flow: Flow, after: StreamPosition = START) -> None:
        self.run = run
        self.task = ""
        self._uuid = UUID(run)
        self._graph = flow.graph
        self._containers = ContainerEvents(flow.graph)
        # what a response tells straight from the environment never was a record, so it is masked here
        env = Mask(flow.secrets).value(dict(flow.environment))
        self._answer = Answer(flow.graph, {"env": env}, thinking=True)
        self._after = after.seq
        self._skip = {0: after.told, **dict(after.inside)}  # characters of each level
        self._seq = 0
        self._queued: RunQueued | None = None
        self._queued_at = 0.0
        self._since: float | None = None
        self._begun: dict[Path, _Begun] = {}
        self._led: dict[Path, str] = {}
        self._nodes = 0
        self._steps = 0
        self._tokens = 0

    def feed(self, record: Record) -> list[StreamEvent]:
        """Takes a record in (numbered or not); returns what the client is to be told of it."""
        if record.seq is None and self._seq < self._after:
            return []  # the journal brings it again
        at, told = self._seq, self._answer.unjournaled
        texts = self._answer.apply(record)
        self._heard([each for each in texts if each.selector[1] != THOUGHT], record.at)
        told_of = list(self._events(record))
        if record.seq is not None:
            self._seq = record.seq
            if record.seq <= self._after:
                return []
            if isinstance(record.event, NodeRetried) or record.event == _TAKEN_UP:
                self._skip = {}  # what was told of an attempt that is over is no part of the next one's text
        frames: list[StreamEvent] = []
        # the end of a container is told before the text that it makes certain
        closed = isinstance(record.event, NodeSucceeded | NodeFailed) and self._containers.holds(record.event.path)
        if closed and record.seq is not None:
            known = self._skip.pop(record.seq, 0)
            for count, each in enumerate(told_of, 1):
                told[record.seq] = count  # such a record begins no round, so its number is free to count its events
                if count > known:
                    frames.append(StreamEvent(*each, StreamPosition.beyond(at, told)))
        for text, selector, level in texts:
            size = len(text) or 1  # the end of a thought counts as a character
            told[level] = told.get(level, 0) + size
            skip = self._skip.get(level, 0)
            if skip > size:
                self._skip[level] = skip - size
            else:
                self._skip.pop(level, None)
            if skip >= size:
                continue
            if selector[1] == THOUGHT:
                data: dict[str, Value] = {"reasoning": text[skip:], "node_id": selector[0], "is_final": not text}
                frames.append(StreamEvent("reasoning_chunk", data, StreamPosition.beyond(at, told)))
            else:
                data = {"text": text[skip:], "from_variable_selector": list(selector)}
                frames.append(StreamEvent("text_chunk", data, StreamPosition.beyond(at, told)))
        frames += [StreamEvent(*each, StreamPosition.beyond(at, told)) for each in told_of if not closed]
        if frames:
            # only the last one leads past the record: a reader cut off before it needs the record again
            frames[-1] = frames[-1]._replace(place=StreamPosition.beyond(self._seq, self._answer.unjournaled))
        return frames

    def _heard(self, texts: Sequence[Said], at: float) -> None:
        """For dialects that tell more of the text than the text; also of what is not told again."""

    def encode(self, frame: StreamEvent) -> bytes:
        """The JSON object of the frame's event."""
        return encode({"event": frame.event, "workflow_run_id": self.run, "task_id": self.task, "data": frame.data})

    # ------------------------------------------------------------------------------------------------------- events

    def _events(self, record: Record) -> Iterable[tuple[str, dict[str, Value]]]:
        """What the record itself is told as; nothing where it is not."""
        match record.event:
            case NodeStarted() as event:
                return self._started(event, record.at)
            case NodeSucceeded() | NodeFailed() as event:
                return self._ended(event, record.at)
            case RoundStarted() as event:
                return self._containers.round(event, record.at)
            case NodeRetried() as event:
                self._steps += is_top_level(event.path)
                return [("node_retry", self._node_retry(event, record.at))]
            case RunQueued() as event:
                self._queued, self._queued_at, self.task = event, record.at, event.task
                return [("workflow_started", self._workflow_started(event))]
            case RunStarted():
                self._since = record.at
            case RunPaused() as event:
                return [("workflow_paused", self._workflow_paused(event, record.at))]
            case RunResumed(recovered=False):
                return [("workflow_started", self._workflow_started(self._asked, "resumption"))]
            case RunEnded() as event:
                return [("workflow_finished", self._workflow_finished(event, record.at))]
            case _:
                pass
        return ()

    def _started(self, event: NodeStarted, at: float) -> Iterable[tuple[str, dict[str, Value]]]:
        self._steps += is_top_level(event.path)
        if self._containers.holds(event.path):
            self._led.pop(event.path, None)
            return self._containers.started(event, at)
        return [("node_started", self._node_started(event.path, at))]

    def _ended(self, event: NodeSucceeded | NodeFailed, at: float) -> Iterable[tuple[str, dict[str, Value]]]:
        fatal = isinstance(event, NodeFailed) and event.strategy is None
        if not fatal:
            self._lead(event.path, event.handle)
        if not is_top_level(event.path):
            self._containers.heard(event.path, at, failed=fatal)
        if self._containers.holds(event.path):
            return self._containers.ended(event, at)
        if isinstance(event, NodeSucceeded):
            self._tokens = sum_of(self._tokens, count_of(event.usage or {}, "total_tokens"))
        told = ("node_finished", self._node_finished(event, at))
        del self._begun[event.path]
        return [told]

    @property
    def _asked(self) -> RunQueued:
        assert self._queued is not None  # a run's first record
        return self._queued

    def _workflow_started(self, event: RunQueued, reason: str = "initial") -> dict[str, Value]:
        system = {f"sys.{name}": value for name, value in event.system.items() if name != "timestamp"}
        return {
            "id": self.run,
            "workflow_id": event.version,
            "inputs": {**event.inputs, **system},
            "created_at": int(self._queued_at),
            "reason": reason,
        }

    def _workflow_finished(self, event: RunEnded, at: float) -> dict[str, Value]:
        data = outcome(self.run, self._asked, self._queued_at, self._since, event, at)
        created_at, finished_at = data.pop("created_at"), data.pop("finished_at")
        return data | {
            "created_by": {"id": self._asked.end_user, "user": self._asked.user},
            "created_at": created_at,
            "finished_at": finished_at,
            "exceptions_count": event.exceptions,
            "files": files_in(event.outputs),
        }

    def _workflow_paused(self, event: RunPaused, at: float) -> dict[str, Value]:
        return {
            "workflow_run_id": self.run,
            "paused_nodes": [reason["node_id"] for reason in event.reasons if "node_id" in reason],
            "outputs": {},
            "reasons": list(event.reasons),
            "status": "paused",
            "created_at": int(self._queued_at),
            "elapsed_time": seconds(self._queued_at if self._since is None else self._since, at),
            "total_tokens": self._tokens,
            "total_steps": self._steps,
        }

    def _lead(self, path: Path, handle: str) -> None:
        graph, node = self._graph.resolve(path)
        prefix = path[: len(path) - len(node)]
        for edge in graph.leaves(node, handle)[0]:
            self._led[prefix + edge.target] = node

    def _node(self, path: Path) -> dict[str, Value]:
        """What all events of a node begin with. Its id is the same wherever it is asked for: none is stored."""
        spec, begun = self._containers.spec(path), self._begun[path]
        return {
            "id": str(uuid5(self._uuid, path)),
            "node_id": spec.id,
            "node_type": spec.type,
            "title": spec.title,
            "index": begun.index,
            "predecessor_node_id": begun.predecessor,
        }

    def _node_started(self, path: Path, at: float) -> dict[str, Value]:
        self._nodes += 1
        self._begun[path] = _Begun(self._nodes, at, self._led.pop(path, None))
        return self._node(path) | {
            "inputs": None,
            "inputs_truncated": False,
            "created_at": int(at),
            "extras": {},
            **self._containers.place(path),
            "agent_strategy": None,
        }

    def _node_finished(self, event: NodeSucceeded | NodeFailed, at: float) -> dict[str, Value]:
        if isinstance(event, NodeSucceeded):
            status, error = "succeeded", None
            paid = event.usage
            metadata = {name: paid[name] for name in ("total_tokens", "total_price", "currency")} if paid else None
        else:
            status, error = ("failed" if event.strategy is None else "exception"), event.error
            metadata = None if event.strategy is None else {"error_strategy": event.strategy}
        if not is_top_level(event.path):
            metadata = {**self._containers.metadata(event.path), **(metadata or {})}
        return self._node_ended(event, status, error, metadata, at)

    def _node_retry(self, event: NodeRetried, at: float) -> dict[str, Value]:
        metadata = self._containers.metadata(event.path) or None
        return self._node_ended(event, "retry", event.error, metadata, at) | {"retry_index": event.attempt}

    def _node_ended(
        self,
        event: NodeSucceeded | NodeFailed | NodeRetried,
        status: str,
        error: str | None,
        metadata: dict[str, Value] | None,
        at: float,
    ) -> dict[str, Value]:
        outputs: Mapping[str, Value] = {} if isinstance(event, NodeRetried) else event.outputs
        since = self._begun[event.path].at
        return self._node(event.path) | {
            "inputs": Inputs(event.inputs),
            "inputs_truncated": False,
            "process_data": event.process,
            "process_data_truncated": False,
            "outputs": outputs,
            "outputs_truncated": False,
            "status": status,
            "error": error,
            "elapsed_time": seconds(since, at),
            "execution_metadata": metadata,
            "created_at": int(since),
            "finished_at": int(at),
            "files": files_in(outputs),
            **self._containers.place(event.path),
        }
