"""What becomes of token buckets and slots when something is taken: the same in every store. And the store in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.kernel.events import RunId
from headrace.ports import Bucket, Slot, Taken
from headrace.stores.projection import RunRow

SKEW = 60.0  # seconds that the clocks of two processes may differ by
BEGUN_SECONDS = 60.0  # within which a run that was admitted is in the journal, or will never be
_NEARLY = 1 - 1e-9  # a whole token, but for what adding fractions loses


class Level(NamedTuple):
    """How many tokens a bucket had, and when (seconds since the epoch)."""

    tokens: float
    at: float


@dataclass(slots=True)
class Ask:
    """What is to be taken, all or none. `known`: not if the run is there already."""

    buckets: Sequence[Bucket]
    now: float
    run: RunId | None = None
    slots: Sequence[Slot] = ()
    known: bool = False


def refilled(level: Level, bucket: Bucket, now: float) -> Level:
    """A bucket as it is now. Of clocks that differ a little the one ahead counts, so that nobody gains by asking here
    and there; one that is far behind has been set back."""
    tokens = min(bucket.capacity, max(0.0, level.tokens))
    if now >= level.at:
        return Level(min(bucket.capacity, tokens + (now - level.at) * bucket.rate), now)
    return Level(tokens, level.at if level.at - now <= SKEW else now)


def settle(ask: Ask, levels: dict[str, Level], counts: dict[str, int]) -> tuple[bool, list[Taken]]:
    """(whether all was taken, what is told of each): takes from the levels of buckets, and adds to the counts of
    slots."""
    now = [refilled(levels[each.name], each, ask.now) for each in ask.buckets]
    full = [level.tokens >= _NEARLY for level in now]
    room = [counts[slot.name] < slot.limit for slot in ask.slots]
    taken = all(full) and all(room)
    if taken:
        for bucket, level in zip(ask.buckets, now, strict=True):
            levels[bucket.name] = Level(max(0.0, level.tokens - 1), level.at)
        for slot in ask.slots:
            counts[slot.name] += 1
    told: list[Taken] = []
    for bucket, level, fits in zip(ask.buckets, now, full, strict=True):
        wait = 0.0 if fits else (1 - level.tokens) / bucket.rate + level.at - ask.now
        told.append(Taken(fits, level.tokens - taken, max(0.0, wait)))
    for slot, fits in zip(ask.slots, room, strict=True):
        told.append(Taken(fits, max(0, slot.limit - counts[slot.name]), 0.0))
    return taken, told


class MemoryBuckets:
    """Buckets. `row` finds a run's line in the list of runs."""

    def __init__(self, row: Callable[[RunId], RunRow | None]) -> None:
        self._row = row
        self._levels: dict[str, Level] = {}
        self._holding: dict[str, dict[RunId, float]] = {}  # by slot, the runs and since when

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
        taken, told = settle(ask, self._levels, counts)
        if taken and ask.run is not None:
            for slot in ask.slots:
                self._holding[slot.name][ask.run] = ask.now
        return told

    def _counts(self, ask: Ask) -> dict[str, int]:
        counts: dict[str, int] = {}
        for slot in ask.slots:
            places = self._holding.setdefault(slot.name, {})
            if len(places) >= slot.limit or len(places) % 1000 == 999:
                self._sweep(places, ask.now)
            paused = len(places) >= slot.limit and sum(self._is_paused(run) for run in places)
            counts[slot.name] = len(places) - paused
        return counts

    def _sweep(self, places: dict[RunId, float], now: float) -> None:
        for run, at in list(places.items()):
            row = self._row(run)
            if row.finished_at is not None if row else at < now - BEGUN_SECONDS:
                del places[run]

    def _is_paused(self, run: RunId) -> bool:
        row = self._row(run)
        return row is not None and row.status == "paused"
