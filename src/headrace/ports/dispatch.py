"""How runs that are ready reach workers.

An engine may hand work over at least once: a claim that is doubled or late changes nothing, because the journal accepts
(run, seq) once. What `ready` loses, a reconciler restores from the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from headrace.background import Slots as Slots
from headrace.kernel.events import RunId


class Priority(IntEnum):
    """Which runs come first: those of callers who wait, then other calls of the API, then batches and schedules."""

    INTERACTIVE = 1
    API = 3
    BATCH = 5


def priority_of(source: str, *, interactive: bool = False) -> Priority:
    """The priority of a run by its source (`RunQueued.source`). `interactive`: somebody waits for it, as another run
    waits for those that it calls."""
    if source.startswith(("batch:", "trigger-schedule:")):
        return Priority.BATCH
    return Priority.INTERACTIVE if interactive or source.startswith("run:") else Priority.API


class ReadyRun(NamedTuple):
    """A run to be driven. It has no content, which is in the journal."""

    run: RunId
    seq: int  # of the record that made it ready; (run, seq) names this drive, so that a repetition is recognised
    workspace: str  # workspaces have equal shares
    app: str
    priority: Priority


@dataclass(slots=True, eq=False)
class Claim:
    """The right to drive one run until it is released or lost. `attempt` is as the engine counts; `on_lost` is called
    once another worker has the run: stop, and append nothing. `exclusive`: the engine gives a run to one worker at a
    time, so that no other source need be queried."""

    run: RunId
    attempt: int = 1
    exclusive: bool = field(default=False, kw_only=True)
    lost: bool = field(default=False, init=False)
    on_lost: Callable[[], None] | None = field(default=None, init=False)

    def lose(self) -> None:
        self.lost = True
        if self.on_lost is not None:
            self.on_lost()


class Backlog(NamedTuple):
    """The runs that wait for a worker: how many, and for how many seconds the first has waited. `newest` is when the
    last one began to wait, 0 if that is not known, and `earlier` how many of them did so until a given time."""

    waiting: int
    oldest: float
    newest: float = 0.0
    earlier: int = 0


Drive = Callable[[Claim], Coroutine[Any, Any, None]]


class Backlogs(Protocol):
    """Counts the runs that wait for a worker."""

    async def backlogs(self, since: float = 0.0) -> Mapping[str, Backlog]:
        """What waits, by workspace; "" for what is not counted by workspace. `earlier` counts what has waited since
        then or longer."""
        ...


class RunQueue(Backlogs, Protocol):
    """Ready runs that wait for a worker of any process on a database. It may lose them."""

    async def put(self, work: ReadyRun) -> None:
        """Adds a run, which is no longer this worker's; one that waits already keeps its place."""
        ...

    async def restore(self, orphans: Collection[RunId]) -> set[RunId]:
        """Adds those of these runs that are not this worker's own, and returns them. Whether a caller waits for them is
        not known, so all but batches and schedules come first: they were accepted before what waits."""
        ...

    async def claim(self, most: int) -> list[RunId]:
        """Takes out at most so many runs, which are this worker's from then on unless another living one has them: the
        most urgent priority first, and within it one of each workspace in turn. One of several callers gets a run."""
        ...

    async def is_empty(self) -> bool: ...


class Dispatch(Protocol):
    """Brings ready runs to workers, at least once."""

    async def ready(self, work: ReadyRun) -> None:
        """Hands a run over, once its record is safe. A run that is ready again while it is driven is driven once more
        afterwards."""
        ...

    def has_room(self) -> bool:
        """Whether a worker of this process would drive a new run at once."""
        ...

    def ready_here(self, work: ReadyRun) -> bool:
        """Hands over a new run whose first record is still being written, if a worker of this process drives it at
        once. If not, call `ready` once the record is safe."""
        ...

    async def work(self, drive: Drive, slots: Slots) -> None:
        """Calls `drive` for as many runs at once as there are slots, until cancelled; keeps the claims meanwhile. A
        drive that raises, or whose process dies, is repeated, possibly by another worker; after one that returns there
        is nothing more to do. When cancelled it cancels the drives, oldest first, and leaves the runs to others."""
        ...

    def drain(self) -> None:
        """Claims nothing more, and leaves what waits to other workers; drives in progress continue."""
        ...

    async def backlog(self) -> Backlog: ...
