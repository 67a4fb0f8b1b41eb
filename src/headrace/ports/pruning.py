"""What is kept, and for how long."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from headrace.kernel.events import RunId


class Pruned(NamedTuple):
    """How many of each were deleted, or would be."""

    runs: int = 0
    events: int = 0
    messages: int = 0
    feedbacks: int = 0
    callbacks: int = 0
    conversations: int = 0
    batches: int = 0
    files: int = 0
    file_bytes: int = 0

    def plus(self, other: Pruned) -> Pruned:
        return Pruned(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The moment at which a search for unused files began: what was written before it is found by the search."""

    at: float
    open: frozenset[RunId]  # runs that had not ended then, and may write more


class Pruner(Protocol):
    """Deleting what nobody needs any more, a little at a time: what else is written does not wait for it.

    Whoever gives up a generator, or is killed, leaves nothing half deleted but what the next one takes away. With
    `dry_run` nothing is deleted, and the same is told.
    """

    def prune(
        self, ended_before: Mapping[str, float], all_before: float | None = None, *, dry_run: bool = False
    ) -> AsyncGenerator[tuple[Sequence[RunId], Pruned]]:
        """Deletes the runs that ended with a status before its time, with their events, messages, feedbacks and
        callbacks; yields which, and how much of each. Those with callbacks to be delivered stay until they are.

        Besides, batches that ended before `all_before`, with their lines, and conversations that have no messages any
        more and in which nothing has happened since then. Runs of a batch stay as long as the batch.
        """
        ...

    async def snapshot(self) -> Snapshot: ...

    async def old_files(self, added_before: float) -> list[str]:
        """The ids of stored files from before a time."""
        ...

    async def known_files(self, ids: Collection[str]) -> set[str]:
        """Those of these files that there are."""
        ...

    async def referenced(self, ids: Collection[str], without: Collection[RunId] = ()) -> set[str]:
        """Those of these files that anything speaks of, in whatever way, but for these runs."""
        ...

    async def referenced_since(self, ids: Collection[str], since: Snapshot) -> set[str]:
        """Those of these files that runs have come to speak of since a search for them began."""
        ...

    async def remove_files(self, ids: Collection[str]) -> None: ...

    async def shrink(self) -> int:
        """Gives the room of what was deleted back to the file system, where the database can while it is used; how
        many bytes."""
        ...

    async def vacuum(self) -> None:
        """Writes the database anew, without gaps. It cannot be written to meanwhile."""
        ...


class BlobStore(Protocol):
    """Where the bytes of stored files are. A file that is about to be used is touched first, so that of a file that is
    set aside nobody has just begun to make use."""

    async def idle(self, files: Sequence[str], since: float) -> list[str]:
        """Those that were not used since a time, and those of which there is nothing."""
        ...

    async def set_aside(self, file: str, since: float) -> bool:
        """Makes a file one that there is not. False, and it stays, if it was used since a time."""
        ...

    async def put_back(self, file: str) -> None: ...

    async def remove(self, file: str) -> int:
        """Deletes a file that was set aside; how many bytes."""
        ...

    async def size(self, file: str) -> int: ...

    async def left_over(self, before: float) -> list[str]:
        """Files set aside before a time, by one who did not come to an end with it; what else such leave is deleted."""
        ...
