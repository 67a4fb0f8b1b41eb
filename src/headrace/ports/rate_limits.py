"""Token buckets and slots, shared by every process on a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from headrace.kernel.events import RunId


class Bucket(NamedTuple):
    """A token bucket: `rate` tokens a second are added to it, up to `capacity`."""

    name: str
    capacity: float
    rate: float


class Taken(NamedTuple):
    """Whether a token was taken, how many are left, and if none was, in how many seconds one can be."""

    taken: bool
    left: float
    wait: float


class Slot(NamedTuple):
    """Room for runs that have not ended, `limit` of them."""

    name: str
    limit: int


class Buckets(Protocol):
    """Token buckets, and slots of runs, shared by every process on the same database."""

    async def take(self, buckets: Sequence[Bucket], now: float) -> list[Taken]:
        """Takes one token of each, or none if one of them is empty; the results in order."""
        ...

    async def admit(
        self, run: RunId, buckets: Sequence[Bucket], slots: Sequence[Slot], now: float, *, known: bool = False
    ) -> list[Taken]:
        """As `take`, and takes a place in each slot too, or nothing: the results of the buckets, then of the slots. A
        run has its places until it ends; while it is paused they are free for others, and if it is not written to the
        journal, after a minute. `known`: if the run exists already, nothing is taken, and [] returned."""
        ...
