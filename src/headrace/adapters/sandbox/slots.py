"""Limits how many confined programs run at once, fairly: no app and no workspace can use all slots.

An app gets a slot only if it has fewer than are free, so that one alone gets half of them, two a third each. Waiting
programs are served in turn: by workspace, then by app, then by age. If all slots are taken, an app without a slot still
gets an extra one (up to `most` in all), and a workspace may take at most as many extra slots as it leaves to others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple


class Owner(NamedTuple):
    """The owner of a program."""

    workspace: str = ""
    app: str = ""


_Waiting = OrderedDict[Owner, deque[asyncio.Future[None]]]


class Slots:
    """`count` slots, and with extra ones up to `most` (by default four times as many) for apps without a slot."""

    def __init__(self, count: int, most: int | None = None) -> None:
        self._count = count
        self._most = most or 4 * count
        self._used: Counter[Owner] = Counter()
        self._extra: Counter[str] = Counter()  # extra slots by workspace
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()

    @property
    def used(self) -> int:
        """How many programs run."""
        return self._used.total()

    @asynccontextmanager
    async def slot(self, owner: Owner) -> AsyncGenerator[None]:
        """Waits for a slot, and releases it in the end."""
        if not self._admit(owner):
            await self._turn(owner)
        try:
            yield
        finally:
            self._release(owner)

    async def _turn(self, owner: Owner) -> None:
        turn = asyncio.get_running_loop().create_future()
        apps = self._waiting.setdefault(owner.workspace, OrderedDict())
        apps.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(owner)  # the slot was assigned at the same moment
            else:
                self._forget(owner, turn)
            raise

    def _forget(self, owner: Owner, turn: asyncio.Future[None]) -> None:
        apps = self._waiting[owner.workspace]
        apps[owner].remove(turn)
        if not apps[owner]:
            del apps[owner]
        if not apps:
            del self._waiting[owner.workspace]

    def _admit(self, owner: Owner) -> bool:
        if owner in self._waiting.get(owner.workspace, ()):
            return False  # the owner's other programs wait already
        return self._take(owner)

    def _take(self, owner: Owner) -> bool:
        free = self._count - (self.used - self._extra.total())
        if self._used[owner] < free:
            self._used[owner] += 1
            return True
        spare = self._most - self._count - self._extra.total()
        if not self._used[owner] and self._extra[owner.workspace] < spare:
            self._used[owner] += 1
            self._extra[owner.workspace] += 1
            return True
        return False

    def _release(self, owner: Owner) -> None:
        self._give_back(owner)
        while self._next():
            pass

    def _give_back(self, owner: Owner) -> None:
        self._used[owner] -= 1
        if not self._used[owner]:
            del self._used[owner]
        # any of a workspace's slots may count as the extra one: the first that is returned does
        if self._extra[owner.workspace]:
            self._extra[owner.workspace] -= 1
            if not self._extra[owner.workspace]:
                del self._extra[owner.workspace]

    def _next(self) -> bool:
        """Gives a slot to the next waiting program that may have it. Returns whether there was one."""
        for workspace, apps in self._waiting.items():
            for owner, turns in apps.items():
                if not self._take(owner):
                    continue
                turn = next((turn for turn in turns if not turn.done()), None)
                if turn is None:  # all of them were cancelled at this moment, and remove themselves
                    self._give_back(owner)
                    continue
                turns.remove(turn)
                apps.move_to_end(owner)
                self._waiting.move_to_end(workspace)
                if not turns:
                    del apps[owner]
                if not apps:
                    del self._waiting[workspace]
                turn.set_result(None)
                return True
        return False
