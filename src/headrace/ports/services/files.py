"""Stored files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import IO, Protocol

from headrace.values import File, Value


class Files(Protocol):
    """Files that callers uploaded or nodes produced."""

    async def save(
        self,
        data: bytes | IO[bytes],
        *,
        filename: str,
        mime_type: str,
        transfer_method: str = "tool_file",
        app: str | None = None,
        owner: str | None = None,
    ) -> File:
        """Stores bytes and returns the file by reference (`related_id`), with a signed url. `owner` is an end user's
        id, or the workspace of a file for a knowledge pipeline. The file's `type` follows from its extension and MIME
        type, as Dify's does."""
        ...

    async def resolve(self, mapping: Mapping[str, Value], app: str | None = None, owners: Collection[str] = ()) -> File:
        """The file that `{type, transfer_method, url | upload_file_id}` refers to. InvalidParam if that is malformed,
        unknown, or of another type than stated; with `owners`, the uploads of other end users are unknown. For a remote
        file, the server is asked for size and type if egress to it is allowed."""
        ...

    async def read(self, file: File, max_size: int = 100 * 1024 * 1024) -> bytes:
        """The content of a stored or remote file. NodeError if it no longer exists."""
        ...
