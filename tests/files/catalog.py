"""The part of a catalog that knows files, in memory."""

from __future__ import annotations

from typing import Any

from headrace.ports import StoredFile


class FileCatalog:
    def __init__(self) -> None:
        self.files: dict[str, StoredFile] = {}
        self.broken = False

    async def add_file(self, stored: StoredFile) -> None:
        if self.broken:
            raise OSError("disk full")
        self.files[stored.id] = stored

    async def find_file(self, file: str) -> StoredFile | None:
        return self.files.get(file)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"files have no use for {name}")
