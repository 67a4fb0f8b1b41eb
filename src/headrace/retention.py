"""How long runs are kept, and the deletion of what is older.

A run goes some days after it ended, with all that is its own: events, message, feedbacks, callbacks. Then goes what is
left of batches and conversations, and last the stored files that nothing speaks of any more.
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

"""How runs end."""

DAY = 24 * 3600.0
_LONGEST = 36_500.0  # days
_FRESH = DAY  # seconds that a file may lie unused, however short the time that runs are kept
_LEFT_OVER = 3600.0  # seconds after which nobody is at work on a file any more
_TOGETHER = 500  # files deleted at once

_CLAIM = "retention"
FIRST_SECONDS, EVERY_SECONDS = 60.0, 3600.0
FILES_EVERY = 24  # times that runs are looked for: the search for files reads all that is kept


def days_kept(text: str) -> dict[str, float]:
    """How many days runs of each status are kept, of a text such as "30", "succeeded=7,failed=90" or "30,failed=90";
    {} of "" and "off": for ever, as are statuses that it does not name. ValueError where it says something else."""
    kept: dict[str, float] = {}
    named: dict[str, float] = {}
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
            raise ValueError(f"'{number.strip()[:50]}' is no number of days")
        if not equals:
            if kept:
                raise ValueError("says twice how long runs are kept")
            kept = dict.fromkeys(FINAL, days)
        elif status not in FINAL:
            raise ValueError(f"'{status[:50]}' is no status that runs end with; those are {', '.join(FINAL)}")
        elif status in named:
            raise ValueError(f"says twice how long runs are kept that {status}")
        else:
            named[status] = days
    return kept | named


class Retention:
    """Deletes what is older than `seconds`, by the status that runs end with; others are kept. `pause` is for how many
    seconds it rests after each step, so that others come to their turn. Of several processes with the same `claims` one
    runs it, until it ends."""

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
            return  # another process does it
        files, self._hours = self._hours % FILES_EVERY == 0, self._hours + 1
        pruned = await self.prune(files=files)
        if any(pruned):
            logger.info("retention deleted %s", in_words(pruned))
        await self._pruner.shrink()

    async def prune(self, *, dry_run: bool = False, files: bool = True) -> Pruned:
        """Deletes all that is old enough, or only says what would go. Returns how much of each."""
        total = Pruned()
        async with aclosing(self.steps(dry_run=dry_run, files=files)) as steps:
            async for step in steps:
                total = total.plus(step)
        return total

    async def steps(self, *, dry_run: bool = False, files: bool = True) -> AsyncGenerator[Pruned]:
        """As `prune`, a step at a time. To give it up midway is safe."""
        if not self._seconds:
            return
        now = self._clock()
        ended_before = {status: now - seconds for status, seconds in self._seconds.items()}
        gone: set[RunId] = set()  # only needed where they stay

        all_before = min(ended_before.values()) if ended_before.keys() >= set(FINAL) else None
        async for runs, pruned in self._pruner.prune(ended_before, all_before, dry_run=dry_run):
            if dry_run:
                gone.update(runs)
            yield await self._rested(pruned)
        if files:
            async for pruned in self._prune_files(min(max(ended_before.values()), now - _FRESH), gone, dry_run):
                yield await self._rested(pruned)

    async def _rested(self, pruned: Pruned) -> Pruned:
        if self._pause:
            await asyncio.sleep(self._pause)
        return pruned

    # ----------------------------------------------------------------------------------------------------- files

    async def _prune_files(self, before: float, gone: set[RunId], dry_run: bool) -> AsyncGenerator[Pruned]:
        """Deletes files from before a time that nobody has used since, and that nothing speaks of.

        Runs go on meanwhile. One that takes up an old file touches it first; one that has a file from elsewhere (a
        variable of its conversation, say) was there when the search began, or came after it: those are looked through
        once more, when what is found has been set aside.
        """
        if not dry_run:
            await self._tidy()
        snapshot = await self._pruner.snapshot()
        old = await self._blobs.idle(await self._pruner.old_files(before), before)
        unused = sorted(set(old) - await self._pruner.referenced(old, gone)) if old else []
        for start in range(0, len(unused), _TOGETHER):
            some = unused[start : start + _TOGETHER]
            if dry_run:
                yield Pruned(files=len(some), file_bytes=sum([await self._blobs.size(file) for file in some]))
                continue
            aside = [file for file in some if await self._blobs.set_aside(file, before)]
            wanted = await self._pruner.referenced_since(aside, snapshot)
            for file in wanted:
                await self._blobs.put_back(file)
            rest = [file for file in aside if file not in wanted]
            await self._pruner.remove_files(rest)
            freed = sum([await self._blobs.remove(file) for file in rest])
            yield Pruned(files=len(rest), file_bytes=freed)

    async def _tidy(self) -> None:
        """Ends what another one has begun and not come to an end with."""
        left = await self._blobs.left_over(self._clock() - _LEFT_OVER)
        known = await self._pruner.known_files(left)
        for file in left:
            if file in known:
                await self._blobs.put_back(file)
            else:
                await self._blobs.remove(file)


def in_words(pruned: Pruned) -> str:
    """In words: 12 runs, 96 events, 1 file."""
    words = [
        f"{count} {name if count != 1 else name.removesuffix('es') if name == 'batches' else name.removesuffix('s')}"
        for name, count in zip(Pruned._fields, pruned, strict=True)
        if count and name != "file_bytes"
    ]
    return ", ".join(words) or "nothing"
