"""Stores the content of files in a folder, each under its id.

The modification time is the time of the last use (the content never changes): see `ports.BlobStore`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

_ASIDE = re.compile(r"\.([0-9a-f-]{36})\.aside")
_PARTIAL = re.compile(r"\.[0-9a-f-]{36}\.[0-9a-f]{8}")


class FileBlobStore:
    """Implements `ports.FileBlobs`. `folder` is created by the first write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, file: str) -> Path:
        return self.folder / file[:2] / file

    def _aside(self, file: str) -> Path:
        return self.folder / file[:2] / f".{file}.aside"

    async def write(self, file: str, data: bytes | IO[bytes], mime_type: str) -> None:
        """Writes atomically; the data is on the disk when this returns."""
        await asyncio.to_thread(self._write, file, data)

    def _write(self, file: str, data: bytes | IO[bytes]) -> None:
        path = self.path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with temporary.open("xb") as out:
                if isinstance(data, bytes):
                    out.write(data)
                else:
                    shutil.copyfileobj(data, out)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    async def read(self, file: str) -> bytes:
        """FileNotFoundError if there is none."""
        return await asyncio.to_thread(self.path(file).read_bytes)

    async def open(self, file: str) -> Path | None:
        """Where its bytes are; None if there are none."""
        path = self.path(file)
        return path if await asyncio.to_thread(path.is_file) else None

    async def delete(self, file: str) -> None:
        await asyncio.to_thread(self.path(file).unlink, missing_ok=True)

    async def total_bytes(self) -> int:
        """The size of all files."""
        return await asyncio.to_thread(self._total_bytes)

    def _total_bytes(self) -> int:
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(os.path.join(folder, name)).st_size
        return total

    async def touch(self, file: str) -> bool:
        """Records that a file is about to be used. False if it does not exist."""
        return await asyncio.to_thread(self._touch, file)

    def _touch(self, file: str) -> bool:
        try:
            os.utime(self.path(file))
        except FileNotFoundError:
            return False
        except OSError:  # of another owner, or on a read-only disk: then it is not deleted either
            return self.path(file).is_file()
        return True

    # --------------------------------------------------------------------------------------------------- deleting

    async def idle(self, files: Sequence[str], since: float) -> list[str]:
        return await asyncio.to_thread(lambda: [file for file in files if not _used(self.path(file), since)])

    async def set_aside(self, file: str, since: float) -> bool:
        return await asyncio.to_thread(self._set_aside, file, since)

    def _set_aside(self, file: str, since: float) -> bool:
        path, aside = self.path(file), self._aside(file)
        if _used(path, since):
            return False
        try:
            path.replace(aside)
        except FileNotFoundError:
            return True  # it was deleted already, or set aside by a process that did not finish
        # a use of the file came before this, or does not find it
        if _used(aside, since):
            aside.replace(path)
            return False
        return True

    async def put_back(self, file: str) -> None:
        await asyncio.to_thread(self._put_back, file)

    def _put_back(self, file: str) -> None:
        try:
            self._aside(file).replace(self.path(file))
        except FileNotFoundError:
            return  # another process did it

    async def remove(self, file: str) -> int:
        return await asyncio.to_thread(_remove, self._aside(file))

    async def size(self, file: str) -> int:
        def work() -> int:
            try:
                return self.path(file).stat().st_size
            except FileNotFoundError:
                return 0

        return await asyncio.to_thread(work)

    async def left_over(self, before: float) -> list[str]:
        def work() -> list[str]:
            names: list[str] = []
            for entry in self._hidden():
                aside = _ASIDE.fullmatch(entry.name)
                if not (aside or _PARTIAL.fullmatch(entry.name)) or _changed(entry) >= before:
                    continue
                if aside:
                    names.append(aside[1])
                else:
                    Path(entry.path).unlink(missing_ok=True)
            return names

        return await asyncio.to_thread(work)

    def _hidden(self) -> Iterator[os.DirEntry[str]]:
        if not self.folder.is_dir():
            return
        for part in sorted(self.folder.iterdir()):
            if len(part.name) == 2 and part.is_dir():
                with os.scandir(part) as entries:
                    yield from (entry for entry in entries if entry.name.startswith("."))


def _used(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since
    except FileNotFoundError:
        return False


def _changed(entry: os.DirEntry[str]) -> float:
    """The earliest time at which an entry got its name."""
    try:
        return entry.stat(follow_symlinks=False).st_ctime
    except FileNotFoundError:
        return float("inf")  # deleted meanwhile


def _remove(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size
