"""What has happened: every run's events, the list of runs, and who goes on with which."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.kernel.events import Record, RunId


class Journal(Protocol):
    """Every run's durable events, in order. (run, seq) is written once: a second writer gets SequenceConflict."""

    def append(self, records: Sequence[Record]) -> Awaitable[None]:
        """Begins to write records of one run, numbered on from its last; appends take effect in the order of calls.

        The awaitable is done once they are as safe as the store makes them; nothing outside the process may learn of
        them before that. Raises SequenceConflict (from the awaitable) if a number is taken, an event's or that of a
        message in its conversation (`Message`): then none of these records is written.
        """
        ...

    async def read(self, run: RunId, after: int = 0) -> list[Record]:
        """The run's records with a number above `after`, in order; [] for an unknown run."""
        ...

    async def changed(self) -> bool:
        """Whether anything may have been written since the last call, by whatever process. Cheap; true where it is not
        known."""
        ...

    async def probe(self) -> None:
        """Writes something that nobody reads. StoreError where nothing can be written."""
        ...

    async def unfinished(self) -> list[RunId]:
        """Runs without a RunEnded (and not paused), oldest first, whoever goes on with them."""
        ...

    async def last_sequences(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        """The number of the last event of each of these runs; unknown ones are left out."""
        ...


class Leases(Protocol):
    """Which worker on a database drives which run.

    A run belongs to the worker that accepted it (RunQueued) or acquired it (RunStarted, RunResumed), from the append of
    that event on. Runs accepted by a process without a worker, paused or released runs, and runs of a dead worker
    belong to nobody.
    """

    @property
    def shared(self) -> bool:
        """Whether another worker was alive at the last heartbeat: only then can it have written to runs driven here."""
        ...

    async def heartbeat(self) -> bool:
        """Shows that this worker is alive: once before it can own runs, and then every few seconds. Whether another
        one was found dead."""
        ...

    async def orphaned(self) -> list[RunId]:
        """The unfinished runs (see `Journal.unfinished`) that belong to nobody or to this worker, oldest first: what a
        reconciler puts back into the queue."""
        ...

    async def acquire(self, run: RunId) -> bool:
        """Makes a run that belongs to nobody this worker's. False if it is another's: one of two callers gets it."""
        ...

    async def release(self, keep: Collection[RunId] = ()) -> None:
        """Gives up this worker's runs, except those to keep."""
        ...


class Claims(Protocol):
    """Which worker on a database handles a piece of background work: a callback, a batch, retention.

    A claim holds until it is released, or its worker is dead.
    """

    async def claim(self, names: Collection[str]) -> set[str]:
        """Claims the names that no other worker has. Returns those that are this worker's then: one of two callers
        gets each."""
        ...

    async def release(self, names: Collection[str]) -> None:
        """Gives up this worker's claims."""
        ...


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run in a list of runs; times in seconds since the epoch, `elapsed` in seconds."""

    run: RunId
    app: str
    version: str
    status: str
    source: str
    end_user: str | None
    session: str  # the `user` that the caller gave
    error: str | None
    elapsed: float
    tokens: int
    steps: int
    exceptions: int
    created_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs of an app to list; None does not filter. Times in seconds since the epoch."""

    app: str
    status: str | None = None
    before: float | None = None
    after: float | None = None
    session: str | None = None
    keyword: str | None = None  # found in the inputs or outputs, or a run's id
    page: int = 1
    limit: int = 20
    version: str | None = None
    source: str | None = None
    older: tuple[float, RunId] | None = None  # (created_at, id) of a run: those that come after it in the list
    counted: bool = True  # False: how many there are in all is not asked for, and may be told wrong


class Runs(Protocol):
    """Lists of runs: a projection of the journal, kept by the store that keeps the journal."""

    async def list_runs(self, which: RunFilter) -> tuple[int, list[ListedRun]]:
        """(how many there are in all, the page asked for), newest first."""
        ...

    async def find_run(self, run: RunId) -> ListedRun | None: ...

    async def find_task(self, task: str) -> RunId | None:
        """The run that a task id names."""
        ...

    async def count_runs(self, source: str) -> Mapping[str, int]:
        """How many runs of a source (`RunQueued.source`) there are of each status."""
        ...
