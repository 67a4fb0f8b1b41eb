"""Deletion of old runs and unused files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from headrace.frozen import frozen
from headrace.kernel.events import RunId


class Pruned(NamedTuple):
    """How many rows and files were deleted, or would be."""

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
        return Pruned(*(count + more for count, more in zip(self, other, strict=True)))


@frozen
class Snapshot:
    """The moment at which a search for unused files began: the search covers what was written before."""

    at: float
    open: frozenset[RunId]  # runs that had not ended then, and may write more


class Pruner(Protocol):
    """Deletes what is no longer needed, a little at a time: other writes do not wait for it.

    If a generator is closed early, or its process killed, the next one deletes what is left. With `dry_run` nothing is
    deleted, and the same is returned.
    """

    def prune(
        self, ended_before: Mapping[str, float], all_before: float | None = None, *, dry_run: bool = False
    ) -> AsyncGenerator[tuple[Sequence[RunId], Pruned]]:
        """Deletes the runs that ended with a status before its time, with their events, messages, feedbacks and
        callbacks; yields their ids and the counts. Runs with pending callbacks stay until those are delivered.

        Also batches that ended before `all_before`, with their lines, and conversations without messages in which
        nothing has happened since then. Runs of a batch stay as long as the batch.
        """
        ...

    async def snapshot(self) -> Snapshot: ...

    async def old_files(self, added_before: float) -> list[str]:
        """The ids of the files stored before a time."""
        ...

    async def known_files(self, ids: Collection[str]) -> set[str]:
        """Those of these files that exist."""
        ...

    async def referenced(self, ids: Collection[str], without: Collection[RunId] = ()) -> set[str]:
        """Those of these files whose id is stored anywhere, except in the runs `without`."""
        ...

    async def referenced_since(self, ids: Collection[str], since: Snapshot) -> set[str]:
        """Those of these files that runs may have come to use since a search began."""
        ...

    async def remove_files(self, ids: Collection[str]) -> None: ...

    async def shrink(self) -> int:
        """Returns free space to the file system, if the database can do so while it is in use; how many bytes."""
        ...

    async def vacuum(self) -> None:
        """Rewrites the database without free space. It cannot be written to meanwhile."""
        ...


class BlobStore(Protocol):
    """The bytes of stored files. A file is touched before it is used, so that no file in use is set aside."""

    async def idle(self, files: Sequence[str], since: float) -> list[str]:
        """Those that were not used since a time, or have no bytes."""
        ...

    async def set_aside(self, file: str, since: float) -> bool:
        """Hides a file, as if it did not exist. False, and it stays, if it was used since a time."""
        ...

    async def put_back(self, file: str) -> None: ...

    async def remove(self, file: str) -> int:
        """Deletes a file that was set aside; how many bytes."""
        ...

    async def size(self, file: str) -> int: ...

    async def left_over(self, before: float) -> list[str]:
        """Files set aside before a time, by a process that did not finish; its other temporary files are deleted."""
        ...
