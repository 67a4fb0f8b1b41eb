"""Every run's events, the list of runs, and which worker drives which run."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Protocol

from headrace.frozen import frozen
from headrace.kernel.events import Record, RunId


class Journal(Protocol):
    """Every run's durable events, in order. (run, seq) is written once: a second writer gets SequenceConflict."""

    def append(self, records: Sequence[Record]) -> Awaitable[None]:
        """Begins to write records of one run, numbered from its last; appends take effect in the order of calls.

        The awaitable is done once they are as safe as the store makes them; nothing outside the process may see them
        before. Raises SequenceConflict (from the awaitable) if an event's number is taken, or that of a message in its
        conversation (`Message`): then none of these records is written.
        """
        ...

    async def read(self, run: RunId, after: int = 0, limit: int | None = None) -> list[Record]:
        """The run's records with a number above `after`, in order, at most `limit`; [] for an unknown run."""
        ...

    async def read_all(self, of: Collection[RunId]) -> Mapping[RunId, list[Record]]:
        """All records of each of these runs; unknown ones, and those that `read` would refuse, are left out."""
        ...

    async def changed(self) -> bool:
        """Whether any process may have written anything since the last call. Cheap; true if unknown."""
        ...

    async def probe(self) -> None:
        """Tests whether the store can be written, by writing to it. StoreError if not."""
        ...

    async def unfinished(self) -> list[RunId]:
        """Runs without a RunEnded that are not paused, oldest first, of every worker."""
        ...

    async def last_sequences(self, of: Collection[RunId]) -> Mapping[RunId, int]:
        """The number of the last event of each of these runs; unknown ones are left out."""
        ...


class Leases(Protocol):
    """Which worker on a database drives which run.

    A run belongs to the worker that accepted it (RunQueued) or acquired it (RunStarted, RunResumed), from the append of
    that event on. Runs accepted by a process without a worker, paused or released runs, and runs of a dead worker have
    no owner.
    """

    @property
    def worker(self) -> str:
        """The id of this worker."""
        ...

    @property
    def expired(self) -> bool:
        """Whether this worker has not shown for a whole lease that it is alive, so that others may have its runs."""
        ...

    @property
    def shared(self) -> bool:
        """Whether another worker was alive at the last heartbeat: only then can it have written to runs driven here."""
        ...

    @property
    def others(self) -> int:
        """How many other workers were alive at the last heartbeat."""
        ...

    @property
    def next_expiry(self) -> float:
        """How many seconds after the last heartbeat the lease of another worker expires, unless that one renews it;
        `inf` if no other is known."""
        ...

    async def heartbeat(self) -> bool:
        """Shows that this worker is alive: once before it can own runs, and then every few seconds. Returns whether
        another worker was found dead."""
        ...

    async def orphaned(self) -> list[RunId]:
        """The unfinished runs (see `Journal.unfinished`) without an owner or of this worker, oldest first: what a
        reconciler dispatches. Those that wait in the `RunQueue`, and those whose records this version cannot read, are
        left out."""
        ...

    async def undriven(self, most: int) -> list[RunId]:
        """At most so many unfinished runs that no living worker has begun to drive: those of dead workers first, then
        those without an owner and those that nobody has started, oldest first."""
        ...

    async def living_workers(self) -> set[str]:
        """The ids of the workers that are alive, as far as the database knows."""
        ...

    async def acquire(self, of: Collection[RunId]) -> set[RunId]:
        """Makes this worker the owner of those of these runs that have no other, and returns them: one of two callers
        gets a run."""
        ...

    async def disown(self, run: RunId) -> None:
        """Gives up one of this worker's runs."""
        ...

    async def release(self, keep: Collection[RunId] = ()) -> None:
        """Gives up this worker's runs, except those to keep."""
        ...


class Claims(Protocol):
    """Which worker on a database handles a piece of background work: a callback, a batch, retention.

    A claim holds until it is released, or its worker is dead.
    """

    async def claim(self, names: Collection[str]) -> set[str]:
        """Claims the names that no other worker has. Returns those that are this worker's afterwards: one of two
        callers gets a name."""
        ...

    async def release(self, names: Collection[str]) -> None:
        """Gives up this worker's claims."""
        ...


@frozen
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
    key: str | None = None  # the id of the principal that submitted it
    price: int | None = None  # in billionths of the currency; None until it has ended, or if currencies are mixed
    currency: str | None = None
    error_node: str | None = None  # the path of the node whose failure ended it


BUCKETS_PER_OCTAVE = 4
"""Of durations: a bucket is the rounded logarithm of the seconds to base 2, times this."""


@frozen
class RunSums:
    """Sums of the ended runs of a group (`name`) with durations in the same bucket, in one currency. `price` is in
    billionths; `runs` of the group of a model are those that called it."""

    name: str
    bucket: int
    currency: str
    runs: int
    failed: int
    tokens: int
    price: int


@frozen
class RunActivity:
    """What has happened in an app: its `last` runs, newest first, and how many runs there were lately."""

    last: Sequence[ListedRun]
    runs: int
    failed: int


@frozen
class RunFilter:
    """Which runs of an app, or of any of several, to list; None does not filter. Times in seconds since the epoch."""

    app: str | Sequence[str]
    status: str | None = None
    before: float | None = None
    after: float | None = None
    session: str | None = None
    keyword: str | None = None  # in the inputs or outputs, or the run's id
    page: int = 1
    limit: int = 20
    version: str | None = None
    source: str | None = None
    older: tuple[float, RunId] | None = None  # (created_at, id) of a run: those after it in the list
    counted: bool = True  # False: the total is not needed, and may be wrong

    @property
    def apps(self) -> Sequence[str]:
        return [self.app] if isinstance(self.app, str) else self.app


class Runs(Protocol):
    """Lists of runs: a projection of the journal, written by the store of the journal."""

    async def list_runs(self, which: RunFilter) -> tuple[int, list[ListedRun]]:
        """(the total, the requested page), newest first."""
        ...

    async def activity(self, apps: Sequence[str], since: float, last: int) -> Mapping[str, RunActivity]:
        """Of each of these apps: its last runs, and the counts of runs created since a time."""
        ...

    async def sums(self, apps: Sequence[str], days: tuple[int, int], by: str) -> list[RunSums]:
        """The sums of these apps from a day to another (inclusive, since the epoch) by day, app, model, key or
        end_user, in any order."""
        ...

    async def find_run(self, run: RunId) -> ListedRun | None: ...

    async def find_runs(self, run_ids: Sequence[RunId]) -> list[ListedRun]:
        """Those of these runs that there are, in any order."""
        ...

    async def find_task(self, task: str) -> RunId | None:
        """The run with a task id."""
        ...

    async def count_runs(self, source: str) -> Mapping[str, int]:
        """How many runs of a source (`RunQueued.source`) there are, by status."""
        ...
