"""The bytes of stored files: written, read, and found for deletion."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import IO, Protocol

from headrace.ports.pruning import BlobStore


class RemoteContent(Protocol):
    """The bytes of a file that is not on this machine; `read` yields those from a position to another."""

    @property
    def size(self) -> int: ...
    @property
    def modified(self) -> float: ...
    @property
    def etag(self) -> str: ...
    @property
    def read(self) -> Callable[[int, int], AsyncGenerator[bytes]]: ...


class FileBlobs(BlobStore, Protocol):
    """Every operation raises FileStorageError where the storage is not available."""

    async def write(self, file: str, data: bytes | IO[bytes], mime_type: str) -> None:
        """Writes atomically; the data is safe when this returns."""
        ...

    async def read(self, file: str) -> bytes:
        """FileNotFoundError if there is none."""
        ...

    async def open(self, file: str) -> Path | RemoteContent | None:
        """Where its bytes are; None if there are none."""
        ...

    async def delete(self, file: str) -> None: ...

    async def touch(self, file: str) -> bool:
        """Records that a file is about to be used. False if it does not exist."""
        ...

    async def total_bytes(self) -> int:
        """The size of all files."""
        ...
