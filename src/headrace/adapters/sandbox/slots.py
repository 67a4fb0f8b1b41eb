"""How many confined programs run at once, and whose: no app and no workspace can use all of it up.

An app takes a slot only while it holds fewer than are free, so that one alone gets half of them, two a third each.
Those that wait are served in turn: by workspace, then by app, then by age. Where many apps have taken every slot, an
app that holds none still gets one, above the number (`most` in all), and a workspace may take of these no more than it
leaves to others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple


class Owner(NamedTuple):
    """Whose program it is."""

    workspace: str = ""
    app: str = ""


_Waiting = OrderedDict[Owner, deque[asyncio.Future[None]]]


class Slots:
    """`count` slots, and up to `most` (four times as many) for apps that hold none."""

    def __init__(self, count: int, most: int | None = None) -> None:
        self._count = count
        self._most = most or 4 * count
        self._held: Counter[Owner] = Counter()
        self._extra: Counter[str] = Counter()  # by workspace: slots above the number
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()

    @property
    def held(self) -> int:
        """How many programs run."""
        return self._held.total()

    @asynccontextmanager
    async def slot(self, owner: Owner) -> AsyncGenerator[None]:
        """Waits for a slot, and holds it."""
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
                self._release(owner)  # it came in the same moment
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
            return False  # behind those of its own who came before
        return self._take(owner)

    def _take(self, owner: Owner) -> bool:
        free = self._count - (self.held - self._extra.total())
        if self._held[owner] < free:
            self._held[owner] += 1
            return True
        spare = self._most - self._count - self._extra.total()
        if not self._held[owner] and self._extra[owner.workspace] < spare:
            self._held[owner] += 1
            self._extra[owner.workspace] += 1
            return True
        return False

    def _release(self, owner: Owner) -> None:
        self._give_back(owner)
        while self._next():
            pass

    def _give_back(self, owner: Owner) -> None:
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        # which of a workspace's slots is the one above the number does not matter: the first to come back
        if self._extra[owner.workspace]:
            self._extra[owner.workspace] -= 1
            if not self._extra[owner.workspace]:
                del self._extra[owner.workspace]

    def _next(self) -> bool:
        """Gives one of those who wait a slot. Whether there was one who may have it."""
        for workspace, apps in self._waiting.items():
            for owner, turns in apps.items():
                if not self._take(owner):
                    continue
                turn = next((turn for turn in turns if not turn.done()), None)
                if turn is None:  # all of them were cancelled in this moment, and go by themselves
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
