"""Token buckets and slots in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace.kernel.events import RunId
from headrace.kernel.summary import PAUSED
from headrace.ports import Bucket, Slot, Taken
from headrace.stores.buckets import BEGUN_SECONDS, Ask, Level, settle
from headrace.stores.projection import RunRow


class MemoryBuckets:
    """Implements Buckets. `row` returns a run's row in the list of runs."""

    def __init__(self, row: Callable[[RunId], RunRow | None]) -> None:
        self._row = row
        self._levels: dict[str, Level] = {}
        self._admissions: dict[str, dict[RunId, float]] = {}  # by slot, the runs and since when

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
        levels, results = settle(ask, self._levels, counts)
        if levels and ask.run is not None:
            for slot in ask.slots:
                self._admissions[slot.name][ask.run] = ask.now
        return results

    def _counts(self, ask: Ask) -> dict[str, int]:
        counts: dict[str, int] = {}
        for slot in ask.slots:
            runs = self._admissions.setdefault(slot.name, {})
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
