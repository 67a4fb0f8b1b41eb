"""Counting what plans allow, for every process on a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from headrace.kernel.events import RunId


class Bucket(NamedTuple):
    """A token bucket: `rate` tokens a second flow into it, until there are `capacity`."""

    name: str
    capacity: float
    rate: float


class Taken(NamedTuple):
    """Whether a token could be taken, how many are left, and otherwise in how many seconds one can be."""

    taken: bool
    left: float
    wait: float


class Slot(NamedTuple):
    """Room for runs that have not ended, `limit` of them."""

    name: str
    limit: int


class Buckets(Protocol):
    """Token buckets, and room for runs, that hold for every process on the same database."""

    async def take(self, buckets: Sequence[Bucket], now: float) -> list[Taken]:
        """Takes one token of each, or of none where one of them is empty; tells of each, in order."""
        ...

    async def admit(
        self, run: RunId, buckets: Sequence[Bucket], slots: Sequence[Slot], now: float, *, known: bool = False
    ) -> list[Taken]:
        """As `take`, and takes a place of each slot too, or of none: tells of the buckets, then of the slots. A run
        has its places from now until it ends; while it is paused they are free for others, and if it does not come to
        be, after a minute. `known`: where there is a run of this id already, nothing is taken, and [] told."""
        ...
