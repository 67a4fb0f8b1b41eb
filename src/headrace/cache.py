"""A cache of what was read from the store. Keys are cached in `access.keys`, apps in `apps.catalog`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_AGE_SECONDS = 0.5
"""The maximum age of a cached key or app: a change by another process takes effect within this time."""


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    loaded_at: float
    refreshing: bool = False


class Cache(Generic[T]):
    """The `max_entries` values used last, each for `max_age` seconds (None: forever). None is not cached.

    After half of that time the first caller reads the value again, while others still get the old one.
    """

    def __init__(self, max_entries: int, max_age: float | None = None) -> None:
        self._max_entries = max_entries
        self._max_age = max_age
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._invalidated = 0

    async def get(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        now = time.monotonic()
        if entry := self._entries.get(key):
            age = now - entry.loaded_at
            if self._max_age is None or age < self._max_age / 2 or (entry.refreshing and age < self._max_age):
                self._entries.move_to_end(key)
                return entry.value
            entry.refreshing = True
        invalidated = self._invalidated
        value = await load()
        if invalidated == self._invalidated:  # else the value may already be out of date
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
        self._invalidated += 1
