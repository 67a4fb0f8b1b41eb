"""Caches of what was read: from the store (keys in `access.keys`, apps in `apps.catalog`), and from files."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_AGE_SECONDS = 0.5
"""The maximum age of a cached key or app: a change by another process takes effect within this time."""


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    loaded_at: float
    refreshing: bool = False


@dataclass(slots=True)
class _Load(Generic[T]):
    task: asyncio.Task[T]
    began_at: float


class Cache(Generic[T]):
    """The `max_entries` values used last, each for `max_age` seconds (None: forever). None is not cached.

    After half of that time the first caller reads the value again, while others still get the old one. Callers without
    a value wait for the same read.
    """

    def __init__(self, max_entries: int, max_age: float | None = None) -> None:
        self._max_entries = max_entries
        self._max_age = max_age
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._loads: dict[Hashable, _Load[T]] = {}

    async def get(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        now = time.monotonic()
        entry, loading = self._entries.get(key), self._loads.get(key)
        if entry is not None:
            age = now - entry.loaded_at
            if self._max_age is None or age < self._max_age / 2 or (entry.refreshing and age < self._max_age):
                self._entries.move_to_end(key)
                return entry.value
            entry.refreshing = True
        if loading is None or (self._max_age is not None and now - loading.began_at >= self._max_age):
            loading = self._loads[key] = _Load(asyncio.create_task(self._load(key, load, now)), now)
        return await asyncio.shield(loading.task)  # others may wait for it

    async def _load(self, key: Hashable, load: Callable[[], Awaitable[T]], now: float) -> T:
        task = asyncio.current_task()
        current = False
        try:
            value = await load()
        finally:
            if (loading := self._loads.get(key)) is not None and loading.task is task:
                current = True
                del self._loads[key]
        if current:  # else the value may already be out of date
            if value is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = _Entry(value, now)
                if len(self._entries) > self._max_entries:
                    self._entries.popitem(last=False)
        return value

    def invalidate(self) -> None:
        """Removes all values, because something has changed."""
        self._entries.clear()
        self._loads.clear()


FileState = tuple[int, int, int]


def file_state(path: Path) -> FileState | None:
    """What changes with a file's content; None if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class FileCache(Generic[T]):
    """The value that `read` makes of a file. An error of `read` is the caller's, at first and in `refresh`."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._read = read
        self._state = file_state(path)
        self.value = read(path)

    def refresh(self) -> bool:
        """Reads the file again if it has changed, and returns whether it has. If `read` fails, the value remains, and
        the file is not read again before its next change."""
        state = file_state(self._path)
        if state == self._state:
            return False
        self._state = state
        self.value = self._read(self._path)
        return True
