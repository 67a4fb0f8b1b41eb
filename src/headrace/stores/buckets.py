"""How token buckets and slots are taken, the same in every store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.kernel.events import RunId
from headrace.ports import Bucket, Slot, Taken

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
