"""How long runs are kept, and the deletion of older ones.

A run is deleted some days after it ended, with its events, message, feedbacks and callbacks. Then batches and
conversations without runs are deleted, and last the stored files that nothing refers to any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from math import isfinite

from headrace.background import Periodic
from headrace.kernel.events import RunId
from headrace.kernel.summary import FINAL
from headrace.ports import BlobStore, Claims, Pruned, Pruner

logger = logging.getLogger(__name__)

DAY = 24 * 3600.0
_LONGEST = 36_500.0  # days
_FRESH = DAY  # seconds that an unused file is kept, however short the time for runs
_LEFT_OVER = 3600.0  # seconds after which no process works on a file any more
_TOGETHER = 500  # files deleted at once

_CLAIM = "retention"
FIRST_SECONDS, EVERY_SECONDS = 60.0, 3600.0
FILES_EVERY = 24  # prunings of runs: the search for files reads the whole database


def days_kept(text: str) -> dict[str, float]:
    """How many days runs are kept, by status, from a text such as "30", "succeeded=7,failed=90" or "30,failed=90"; {}
    for "" and "off". Statuses that it does not name are kept for ever. ValueError if it is not valid."""
    default: dict[str, float] = {}
    periods: dict[str, float] = {}
    if text.strip().lower() in ("", "off"):
        return {}
    for part in text.split(","):
        status, equals, number = part.strip().rpartition("=")
        status = status.strip()
        try:
            days = float(number)
        except ValueError:
            days = -1.0
        if not (isfinite(days) and 0 < days <= _LONGEST):
            raise ValueError(f"'{number.strip()[:50]}' is not a number of days")
        if not equals:
            if default:
                raise ValueError("retention is given twice")
            default = dict.fromkeys(FINAL, days)
        elif status not in FINAL:
            raise ValueError(f"'{status[:50]}' is not a final status; those are {', '.join(FINAL)}")
        elif status in periods:
            raise ValueError(f"retention of {status} runs is given twice")
        else:
            periods[status] = days
    return default | periods


class Retention:
    """Deletes what is older than `seconds`, by the final status of runs; others are kept. After each step it pauses for
    `pause` seconds. Of several processes with the same `claims` one runs it, until it ends."""

    def __init__(
        self,
        pruner: Pruner,
        blobs: BlobStore,
        seconds: Mapping[str, float],
        clock: Callable[[], float] = time.time,
        pause: float = 0.0,
        claims: Claims | None = None,
    ) -> None:
        self._pruner = pruner
        self._blobs = blobs
        self._seconds = seconds
        self._clock = clock
        self._pause = pause
        self._claims = claims
        self._hours = 0

    async def run(self) -> None:
        """Prunes every hour, files once a day, until cancelled."""
        await Periodic("retention", self._prune_hourly, EVERY_SECONDS).run(FIRST_SECONDS)

    async def _prune_hourly(self) -> None:
        if self._claims is not None and not await self._claims.claim([_CLAIM]):
            return  # another process runs it
        files, self._hours = self._hours % FILES_EVERY == 0, self._hours + 1
        result = await self.prune(files=files)
        if any(result):
            logger.info("retention deleted %s", in_words(result))
        await self._pruner.shrink()

    async def prune(self, *, dry_run: bool = False, files: bool = True) -> Pruned:
        """Deletes all that is old enough, or only counts it. Returns the counts."""
        total = Pruned()
        async with aclosing(self.steps(dry_run=dry_run, files=files)) as steps:
            async for step in steps:
                total = total.plus(step)
        return total

    async def steps(self, *, dry_run: bool = False, files: bool = True) -> AsyncGenerator[Pruned]:
        """As `prune`, a step at a time. It can safely be closed early."""
        if not self._seconds:
            return
        now = self._clock()
        ended_before = {status: now - seconds for status, seconds in self._seconds.items()}
        pruned_runs: set[RunId] = set()  # of a dry run

        all_before = min(ended_before.values()) if ended_before.keys() >= set(FINAL) else None
        async for runs, part in self._pruner.prune(ended_before, all_before, dry_run=dry_run):
            if dry_run:
                pruned_runs.update(runs)
            yield await self._after_pause(part)
        if files:
            before = min(max(ended_before.values()), now - _FRESH)
            async for part in self._prune_files(before, pruned_runs, dry_run):
                yield await self._after_pause(part)

    async def _after_pause(self, part: Pruned) -> Pruned:
        if self._pause:
            await asyncio.sleep(self._pause)
        return part

    # ----------------------------------------------------------------------------------------------------- files

    async def _prune_files(self, before: float, without: set[RunId], dry_run: bool) -> AsyncGenerator[Pruned]:
        """Deletes files from before a time that have not been used since, and that nothing refers to.

        Runs continue meanwhile. One that uses an old file touches it first; one that has a file from elsewhere (such as
        a variable of its conversation) was unfinished when the search began, or came after it: those are searched once
        more, after the files have been set aside.
        """
        if not dry_run:
            await self._finish_interrupted()
        snapshot = await self._pruner.snapshot()
        old = await self._blobs.idle(await self._pruner.old_files(before), before)
        unused_files = sorted(set(old) - await self._pruner.referenced(old, without)) if old else []
        for start in range(0, len(unused_files), _TOGETHER):
            some = unused_files[start : start + _TOGETHER]
            if dry_run:
                yield Pruned(files=len(some), file_bytes=sum([await self._blobs.size(file) for file in some]))
                continue
            aside = [file for file in some if await self._blobs.set_aside(file, before)]
            files_in_use = await self._pruner.referenced_since(aside, snapshot)
            for file in files_in_use:
                await self._blobs.put_back(file)
            rest = [file for file in aside if file not in files_in_use]
            await self._pruner.remove_files(rest)
            freed_bytes = sum([await self._blobs.remove(file) for file in rest])
            yield Pruned(files=len(rest), file_bytes=freed_bytes)

    async def _finish_interrupted(self) -> None:
        """Finishes the deletions that another process has begun and not finished."""
        left = await self._blobs.left_over(self._clock() - _LEFT_OVER)
        known_files = await self._pruner.known_files(left)
        for file in left:
            if file in known_files:
                await self._blobs.put_back(file)
            else:
                await self._blobs.remove(file)


def in_words(counts: Pruned) -> str:
    """In words: 12 runs, 96 events, 1 file."""
    words = [
        f"{count} {name if count != 1 else name.removesuffix('es') if name == 'batches' else name.removesuffix('s')}"
        for name, count in zip(Pruned._fields, counts, strict=True)
        if count and name != "file_bytes"
    ]
    return ", ".join(words) or "nothing"
