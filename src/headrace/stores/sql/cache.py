"""What was read lately."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    at: float
    refreshing: bool = False


class Cache(Generic[T]):
    """The `most` values asked for last, each believed for `fresh` seconds (None: for ever). None is not kept.

    Past half its time a value is read again by the first who asks, while the others still get the old one.
    """

    def __init__(self, most: int, fresh: float | None = None) -> None:
        self._most = most
        self._fresh = fresh
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._cleared = 0

    async def get(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        now = time.monotonic()
        if entry := self._entries.get(key):
            age = now - entry.at
            if self._fresh is None or age < self._fresh / 2 or (entry.refreshing and age < self._fresh):
                self._entries.move_to_end(key)
                return entry.value
            entry.refreshing = True
        cleared = self._cleared
        value = await load()
        if cleared == self._cleared:  # else what was read may be out of date already
            if value is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = _Entry(value, now)
                if len(self._entries) > self._most:
                    self._entries.popitem(last=False)
        return value

    def clear(self) -> None:
        self._entries.clear()
        self._cleared += 1
