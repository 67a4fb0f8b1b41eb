"""Everything that can happen to a run.

A run is its events: whatever anyone sees of it (run detail, stream, logs, trace) is a view of them.
Durable events carry a sequence number, from 1, without gaps; together they are the journal.
`Delta` is told twice: at once without a number (it may be lost), and soon after, in larger pieces, with one.

                 ┌─ RunPaused ─┐
    RunQueued → RunStarted → (nodes) → RunEnded          StopRequested may come at any moment
                 └─ RunResumed ┘                         RunResumed also marks a run taken up again after a crash

    NodeStarted → NodeRetried* → NodeSucceeded | NodeFailed        NodeSkipped instead, where no edge leads here
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeAlias

from headrace.kernel.graph import Path
from headrace.values import Value

RunId: TypeAlias = str

_EMPTY: Mapping[str, Value] = {}


@dataclass(frozen=True, slots=True)
class RunQueued:
    """A run was asked for. `inputs` are the start node's values, checked; `system` is what `sys.*` reads."""

    app: str
    version: str
    task: str
    user: str
    inputs: Mapping[str, Value]
    system: Mapping[str, Value]
    end_user: str | None = None
    source: str = "service-api"  # or batch:ID
    callback: str | None = None  # told when the run ends or pauses
    retry_of: str | None = None  # the run whose finished nodes this one took over
    conversation: str | None = None  # the run is one exchange of it
    trace: str | None = None  # the caller's W3C `traceparent`


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A worker took the run up for the first time. `conversation`: the conversation's variables as they were then."""

    conversation: Mapping[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True, slots=True)
class RunPaused:
    """The run waits for somebody; `reasons` say for whom and for what."""

    reasons: tuple[Mapping[str, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class RunResumed:
    """The run goes on: after a pause, or (`recovered`) taken up by another worker after a crash."""

    recovered: bool = False


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody asked the run to stop."""

    by: str = ""


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run is over. `status` is succeeded, partial-succeeded, failed or stopped. `said` is all that one which failed
    has said; of others `outputs` have it."""

    status: str
    outputs: Mapping[str, Value] = field(default_factory=dict[str, Value])
    error: str | None = None
    tokens: int = 0
    steps: int = 0
    exceptions: int = 0
    response_text: str | None = None


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """`inputs` are what a container works on; other nodes tell theirs at the end."""

    path: Path
    inputs: Mapping[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True, slots=True)
class NodeRetried:
    """An attempt failed and another one follows; `attempt` counts the failed ones, from 1."""

    path: Path
    attempt: int
    error: str
    kind: str
    inputs: Mapping[str, Value] = field(default_factory=dict[str, Value])
    process: Mapping[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True, slots=True)
class NodeSucceeded:
    """`handle` is the edge it leaves by; `usage` is what a model was paid (see `ports.services.Usage.wire`); `assigned`
    is what it wrote to other scopes (`conversation`, a loop's id): scope, name, value."""

    path: Path
    outputs: Mapping[str, Value]
    inputs: Mapping[str, Value] = field(default_factory=dict[str, Value])
    process: Mapping[str, Value] = field(default_factory=dict[str, Value])
    handle: str = "source"
    usage: Mapping[str, Value] | None = None
    assigned: Mapping[str, Mapping[str, Value]] = field(default_factory=dict[str, Mapping[str, Value]])


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """`strategy` tells what the failure means: None ends the run; fail-branch and default-value handle it, with
    `outputs` as what later nodes see and `handle` as the edge to leave by."""

    path: Path
    error: str
    kind: str
    inputs: Mapping[str, Value] = field(default_factory=dict[str, Value])
    process: Mapping[str, Value] = field(default_factory=dict[str, Value])
    outputs: Mapping[str, Value] = field(default_factory=dict[str, Value])
    strategy: str | None = None
    handle: str = "source"


@dataclass(frozen=True, slots=True)
class NodeSkipped:
    """No taken edge leads to this node."""

    path: Path


@dataclass(frozen=True, slots=True)
class RoundStarted:
    """A container (iteration, loop) opened a round, from 0; `inputs` are what it sees under the container's id."""

    path: Path
    round: int
    inputs: Mapping[str, Value] = field(default_factory=dict[str, Value])


REASONING = "#reasoning"
"""The `name` of a Delta that is a model's thinking, kept apart from its text: raw, where `reasoning_content` is not. No
output is called so."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Text that a node's output `name` grew by. `at`: how many characters of it came before, in this attempt."""

    path: Path
    name: str
    at: int
    text: str


@dataclass(frozen=True, slots=True)
class NodeLogged:
    """A line that a node wants seen while it runs; never journaled."""

    path: Path
    message: str


Event: TypeAlias = (
    RunQueued
    | RunStarted
    | RunPaused
    | RunResumed
    | StopRequested
    | RunEnded
    | NodeStarted
    | NodeRetried
    | NodeSucceeded
    | NodeFailed
    | NodeSkipped
    | RoundStarted
    | Delta
    | NodeLogged
)

EVENTS: Mapping[str, type[Event]] = {
    each.__name__: each
    for each in (
        RunQueued,
        RunStarted,
        RunPaused,
        RunResumed,
        StopRequested,
        RunEnded,
        NodeStarted,
        NodeRetried,
        NodeSucceeded,
        NodeFailed,
        NodeSkipped,
        RoundStarted,
        Delta,
        NodeLogged,
    )
}
_FIELDS = {each: tuple(f.name for f in fields(each)) for each in EVENTS.values()}


class Record(NamedTuple):
    """An event of a run with its place in the order of things.

    `seq` is None for what is not journaled; `at` is in seconds since the epoch.
    """

    run: RunId
    seq: int | None
    at: float
    event: Event


def pack(event: Event) -> list[Any]:
    """The event's fields in order, values as they are: what a store encodes."""
    return [getattr(event, name) for name in _FIELDS[type(event)]]


def unpack(name: str, packed: list[Any]) -> Event:
    """The event again. Fields added since it was stored take their defaults, so old journals stay readable."""
    return EVENTS[name](*packed)
