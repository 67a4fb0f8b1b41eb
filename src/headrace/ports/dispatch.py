"""How runs that are ready reach workers.

An engine may hand work over at least once: a claim that is doubled or late changes nothing, because the journal accepts
(run, seq) once. What `ready` loses, a reconciler restores from the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from headrace.kernel.events import RunId


class Priority(IntEnum):
    """Which runs come first: those of callers who wait, then other calls of the API, then batches and schedules."""

    INTERACTIVE = 1
    API = 3
    BATCH = 5


class ReadyRun(NamedTuple):
    """A run to be driven. It has no content, which is in the journal."""

    run: RunId
    seq: int  # of the record that made it ready; (run, seq) names this drive, so that a repetition is recognised
    workspace: str  # workspaces have equal shares
    app: str
    priority: Priority


class Claim:
    """The right to drive one run until it is released or lost. `attempt` is as the engine counts. `exclusive`: the
    engine gives a run to one worker at a time, so that nobody else need be asked."""

    __slots__ = ("_on_lost", "attempt", "exclusive", "lost", "run")

    def __init__(self, run: RunId, attempt: int = 1, *, exclusive: bool = False) -> None:
        self.run = run
        self.attempt = attempt
        self.exclusive = exclusive
        self.lost = False  # another worker has the run: stop, and append nothing
        self._on_lost: Callable[[], None] | None = None

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Calls back once the claim is lost; at once if it is already."""
        self._on_lost = callback
        if self.lost:
            callback()

    def lose(self) -> None:
        self.lost = True
        if self._on_lost is not None:
            self._on_lost()


class Backlog(NamedTuple):
    """The runs that wait for a worker: how many, and for how many seconds the first has waited."""

    waiting: int
    oldest: float


class Slots:
    """How many runs a worker drives at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = asyncio.Semaphore(count)
        self._lent = 0  # slots that were given back too early, and are not given back again
        self._twins: list[Slots] = []

    def twin(self) -> Slots:
        """As many slots beside these, for runs that must not wait for them. A slot that is lent frees one of both."""
        twin = Slots(self.count)
        self._twins.append(twin)
        return twin

    async def acquire(self) -> None:
        await self._free.acquire()

    def release(self) -> None:
        if self._lent:
            self._lent -= 1
        else:
            self._free.release()

    @contextmanager
    def lend(self) -> Generator[None]:
        """Frees a slot for the time in which its run waits for another one, which could not start otherwise."""
        lent = (self, *self._twins)
        for slots in lent:
            slots._free.release()
        try:
            yield
        finally:
            for slots in lent:
                slots._lent += 1


Drive = Callable[[Claim], Coroutine[Any, Any, None]]


class Dispatch(Protocol):
    """Brings ready runs to workers, at least once."""

    async def ready(self, work: ReadyRun) -> None:
        """Hands a run over, once its record is safe. A run that is ready again while it is driven is driven once more
        afterwards."""
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
