"""Limits of how many calls of a provider's models are in progress at once. A call beyond them waits.

Runs take turns: the calls of one that makes many at once do not delay those of another. The processes on a database
share the limits (`ports.ModelSlots`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from heapq import heappop, heappush
from math import inf

from headrace.adapters.models.providers import PROVIDERS, last_part
from headrace.background import Periodic, cancel
from headrace.errors import HeadraceError
from headrace.ports import ModelSlots, Signal, Wire
from headrace.ports.services import ChatChunk, ChatRequest, Models


class ModelLimits:
    """Limits by the name of a provider or PROVIDER/MODEL; a provider may also be named as Dify does, by
    AUTHOR/PLUGIN/PROVIDER. A call that both limit has to be within both. `is_configured` says which names in front of
    a slash are those of providers, since models may have slashes in their names. `polls`: seconds between looks for
    slots that other processes have freed, where the wire does not say so. HeadraceError if two limits are the same."""

    def __init__(
        self,
        limits: Mapping[str, int],
        slots: ModelSlots,
        wire: Wire,
        polls: float,
        is_configured: Callable[[str], bool] = PROVIDERS.__contains__,
    ) -> None:
        self.limits = {name: ModelLimit(name, limit, slots, wire, polls) for name, limit in limits.items()}
        self._by_name = dict(self.limits)
        for name, limit in self.limits.items():
            author, *rest = name.split("/", 2)
            if len(rest) == 2 and not is_configured(author) and self._by_name.setdefault(rest[1], limit) is not limit:
                raise HeadraceError(f"The limits of calls of models name {rest[1]} twice, also as {name}.")
        wire.on_signal(Signal.MODEL_SLOT, self._on_freed)

    def of(self, provider: str, model: str) -> list[ModelLimit]:
        """The limits of a call: the narrower one first, so that a call that waits for it takes no slot of the other."""
        name = last_part(provider)
        return [limit for key in (f"{name}/{model}", name) if (limit := self._by_name.get(key)) is not None]

    @asynccontextmanager
    async def slot(self, provider: str, model: str, run: str = "") -> AsyncGenerator[None]:
        """Waits until a call is within all its limits. Calls without a `run` take turns as if each was of its own."""
        async with AsyncExitStack() as stack:
            for limit in self.of(provider, model):
                await stack.enter_async_context(limit.slot(run))
            yield

    def _on_freed(self, name: str) -> None:
        if (limit := self.limits.get(name)) is not None and limit.waiting:
            limit.refresh()

    async def aclose(self) -> None:
        await cancel(*(limit.task for limit in self.limits.values() if limit.task is not None))


class LimitedModels:
    """Implements Models: calls those of `models` within `limits`."""

    def __init__(self, models: Models, limits: ModelLimits) -> None:
        self._models = models
        self._limits = limits

    def missing(self, provider: str) -> str | None:
        return self._models.missing(provider)

    def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk]:
        is_limited = self._limits.of(request.provider, request.model)
        return self._chat(request) if is_limited else self._models.chat(request)

    async def _chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk]:
        async with (
            self._limits.slot(request.provider, request.model, request.run),
            aclosing(self._models.chat(request)) as chunks,
        ):
            async for chunk in chunks:
                yield chunk


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
        grant = await self._slots.request(self.name, self._limit, self.active, min(self.waiting, self._limit))
        for _ in range(grant.calls):
            if not self._begin_next():
                self.refresh()  # those that waited were cancelled meanwhile
        if freed and grant.others_wait:
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
