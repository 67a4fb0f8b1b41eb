"""Limits of how many calls of a provider's models are in progress at once. A call beyond them waits.

Runs take turns: the calls of one that makes many at once do not delay those of another. The processes on a database
share the limits (`ports.ModelSlots`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from heapq import heappop, heappush
from math import inf

from headrace.adapters.models.providers import last_part
from headrace.background import Periodic, cancel
from headrace.ports import ModelSlots, Signal, Wire
from headrace.ports.services import ChatChunk, ChatRequest, Models


class LimitedModels:
    """Implements Models: calls those of `models` within `limits`, by the name of a provider or PROVIDER/MODEL. A call
    that both limit has to be within both. `polls`: seconds between looks for slots that other processes have freed,
    where the wire does not say so."""

    def __init__(self, models: Models, limits: Mapping[str, int], slots: ModelSlots, wire: Wire, polls: float) -> None:
        self._models = models
        self.limits = {name: ModelLimit(name, limit, slots, wire, polls) for name, limit in limits.items()}
        wire.on_signal(Signal.MODEL_SLOT, self._on_freed)

    def missing(self, provider: str) -> str | None:
        return self._models.missing(provider)

    def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk]:
        provider = last_part(request.provider)
        # the narrower limit first, so that a call that waits for it takes no slot of the other
        names = (f"{provider}/{request.model}", provider)
        limits = [limit for name in names if (limit := self.limits.get(name)) is not None]
        return self._chat(request, limits) if limits else self._models.chat(request)

    async def _chat(self, request: ChatRequest, limits: list[ModelLimit]) -> AsyncGenerator[ChatChunk]:
        async with AsyncExitStack() as stack:
            for limit in limits:
                await stack.enter_async_context(limit.slot(request.run))
            async with aclosing(self._models.chat(request)) as chunks:
                async for chunk in chunks:
                    yield chunk

    def _on_freed(self, name: str) -> None:
        if (limit := self.limits.get(name)) is not None and limit.waiting:
            limit.refresh()

    async def aclose(self) -> None:
        await cancel(*(limit.task for limit in self.limits.values() if limit.task is not None))


class ModelLimit:
    """One limit: the calls of this process that are in progress and that wait.

    Calls wait in the order of their turns: the first of each run, then the second of each, and so on; a run that comes
    later joins in the current turn.
    """

    def __init__(self, name: str, limit: int, slots: ModelSlots, wire: Wire, polls: float) -> None:
        self.name = name
        self.active = 0
        self.waiting = 0
        self.task: asyncio.Task[None] | None = None  # makes the requests; begins with the first call
        self._limit = limit
        self._slots = slots
        self._wire = wire
        self._polls = polls
        self._queue: list[tuple[int, int, object, asyncio.Future[None]]] = []  # (turn, number, run, call)
        self._turn = 0  # of the call that began last
        self._turns: dict[object, int] = {}  # of the last call that waits, by run
        self._calls = 0
        self._freed = False
        self._requests = Periodic(f"slots of {name}", self._request, inf)

    @asynccontextmanager
    async def slot(self, run: str) -> AsyncGenerator[None]:
        """Waits for a slot, and has it during the block."""
        if self.task is None:
            self.task = asyncio.create_task(self._requests.run(), name=f"slots of {self.name}")
        call = asyncio.get_running_loop().create_future()
        self._put(run or call, call)
        try:
            await call
            yield
        finally:
            if call.cancelled():
                self.waiting -= 1
                if len(self._queue) > 2 * self.waiting + 16:
                    self._forget_cancelled()
            else:
                self.active -= 1
            self._freed = True
            self.refresh()

    def refresh(self) -> None:
        """Makes another request soon."""
        self._requests.wake()

    def _put(self, run: object, call: asyncio.Future[None]) -> None:
        turn = self._turns[run] = max(self._turn, self._turns.get(run, 0)) + 1
        self._calls += 1
        self.waiting += 1
        heappush(self._queue, (turn, self._calls, run, call))
        self.refresh()

    def _forget_cancelled(self) -> None:
        """While no slot becomes free, nothing else takes them out of the queue."""
        self._queue = sorted(entry for entry in self._queue if not entry[-1].done())
        self._turns = {run: turn for turn, _, run, _ in self._queue}

    async def _request(self) -> float:
        freed, self._freed = self._freed, False
        granted = await self._slots.request(self.name, self._limit, self.active, min(self.waiting, self._limit))
        for _ in range(granted.calls):
            if not self._begin_next():
                self.refresh()  # those that waited were cancelled meanwhile
        if freed and granted.others_wait:
            self._wire.signal(Signal.MODEL_SLOT, self.name)
        return self._polls if self.waiting else inf

    def _begin_next(self) -> bool:
        while self._queue:
            turn, _, run, call = heappop(self._queue)
            if self._turns.get(run) == turn:
                del self._turns[run]
            if not call.done():
                self._turn = turn
                self.active += 1
                self.waiting -= 1
                call.set_result(None)
                return True
        return False
