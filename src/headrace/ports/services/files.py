"""Stored files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from headrace.values import File, Value


class Files(Protocol):
    """Stored files, of uploads and of nodes' answers."""

    async def save(
        self,
        data: bytes,
        *,
        filename: str,
        mime_type: str,
        transfer_method: str = "tool_file",
        app: str | None = None,
        owner: str | None = None,
    ) -> File:
        """Stores bytes and returns the file by reference (`related_id`), with a signed url. `owner` is an end user's
        id. The file's `type` follows from its extension and MIME type, as Dify's does."""
        ...

    async def resolve(self, mapping: Mapping[str, Value], app: str | None = None) -> File:
        """The file that a caller means by `{type, transfer_method, url | upload_file_id}`. InvalidParam where it is
        malformed, unknown, or of another type than it says. The size and type of a remote file are asked of its
        server, as far as the egress guard allows."""
        ...

    async def read(self, file: File, max_size: int = 100 * 1024 * 1024) -> bytes:
        """The bytes of a stored file, or of a remote one (guarded like every request). NodeError where it is gone."""
        ...
