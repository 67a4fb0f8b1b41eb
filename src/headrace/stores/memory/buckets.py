"""How token buckets and slots are taken, the same in every store. And the store in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.kernel.events import RunId
from headrace.kernel.summary import PAUSED
from headrace.ports import Bucket, Slot, Taken
from headrace.stores.projection import RunRow

SKEW = 60.0  # seconds that the clocks of two processes may differ by
BEGUN_SECONDS = 60.0  # within which an admitted run is in the journal, or never will be
_NEARLY = 1 - 1e-9  # a whole token, except for the rounding of fractions


class Level(NamedTuple):
    """How many tokens a bucket had, and when (seconds since the epoch)."""

    tokens: float
    at: float


@dataclass(slots=True)
class Ask:
    """What is to be taken, all or none. `known`: unless the run exists already."""

    buckets: Sequence[Bucket]
    now: float
    run: RunId | None = None
    slots: Sequence[Slot] = ()
    known: bool = False


def refilled(level: Level, bucket: Bucket, now: float) -> Level:
    """A bucket as it is now. If two processes' clocks differ a little, the later one counts, so that no caller gains by
    alternating between them; a clock that is far behind has been set back."""
    tokens = min(bucket.capacity, max(0.0, level.tokens))
    if now >= level.at:
        return Level(min(bucket.capacity, tokens + (now - level.at) * bucket.rate), now)
    return Level(tokens, level.at if level.at - now <= SKEW else now)


def settle(ask: Ask, levels: dict[str, Level], counts: dict[str, int]) -> tuple[bool, list[Taken]]:
    """(whether all was taken, the results): takes from the levels of buckets, and adds to the counts of slots."""
    now = [refilled(levels[bucket.name], bucket, ask.now) for bucket in ask.buckets]
    full = [level.tokens >= _NEARLY for level in now]
    room = [counts[slot.name] < slot.limit for slot in ask.slots]
    taken = all(full) and all(room)
    if taken:
        for bucket, level in zip(ask.buckets, now, strict=True):
            levels[bucket.name] = Level(max(0.0, level.tokens - 1), level.at)
        for slot in ask.slots:
            counts[slot.name] += 1
    results: list[Taken] = []
    for bucket, level, fits in zip(ask.buckets, now, full, strict=True):
        wait = 0.0 if fits else (1 - level.tokens) / bucket.rate + level.at - ask.now
        results.append(Taken(fits, level.tokens - taken, max(0.0, wait)))
    for slot, fits in zip(ask.slots, room, strict=True):
        results.append(Taken(fits, max(0, slot.limit - counts[slot.name]), 0.0))
    return taken, results


class MemoryBuckets:
    """Implements Buckets. `row` returns a run's row in the list of runs."""

    def __init__(self, row: Callable[[RunId], RunRow | None]) -> None:
        self._row = row
        self._levels: dict[str, Level] = {}
        self._admitted: dict[str, dict[RunId, float]] = {}  # by slot, the runs and since when

    async def take(self, buckets: Sequence[Bucket], now: float) -> list[Taken]:
        return self._settle(Ask(buckets, now))

    async def admit(
        self, run: RunId, buckets: Sequence[Bucket], slots: Sequence[Slot], now: float, *, known: bool = False
    ) -> list[Taken]:
        if known and self._row(run) is not None:
            return []
        return self._settle(Ask(buckets, now, run, slots, known))

    def _settle(self, ask: Ask) -> list[Taken]:
        for bucket in ask.buckets:
            self._levels.setdefault(bucket.name, Level(bucket.capacity, ask.now))
        counts = self._counts(ask)
        taken, results = settle(ask, self._levels, counts)
        if taken and ask.run is not None:
            for slot in ask.slots:
                self._admitted[slot.name][ask.run] = ask.now
        return results

    def _counts(self, ask: Ask) -> dict[str, int]:
        counts: dict[str, int] = {}
        for slot in ask.slots:
            runs = self._admitted.setdefault(slot.name, {})
            if len(runs) >= slot.limit or len(runs) % 1000 == 999:
                self._remove_ended(runs, ask.now)
            paused = len(runs) >= slot.limit and sum(self._is_paused(run) for run in runs)
            counts[slot.name] = len(runs) - paused
        return counts

    def _remove_ended(self, runs: dict[RunId, float], now: float) -> None:
        for run, at in list(runs.items()):
            row = self._row(run)
            if row.finished_at is not None if row else at < now - BEGUN_SECONDS:
                del runs[run]

    def _is_paused(self, run: RunId) -> bool:
        row = self._row(run)
        return row is not None and row.status == PAUSED
