"""Background work: a task that lasts as long as a block, work that is repeated, or done for many callers together, and
how much is done at once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from math import inf, isfinite
from typing import Any, Generic, TypeVar

from headrace.errors import HeadraceError, StoreError

logger = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

MAX_PAUSE = 5.0  # seconds between attempts while work fails


@asynccontextmanager
async def background(name: str, work: Coroutine[Any, Any, None]) -> AsyncGenerator[asyncio.Task[None]]:
    """Runs work in a task until the block ends. If it has failed, its error is raised then."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancels tasks in this order and waits until all have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def back_off(failures: int, first_pause: float, max_pause: float) -> float:
    """The seconds to wait after a number of consecutive failures: twice as long each time."""
    return min(first_pause * 2 ** min(failures - 1, 20), max(first_pause, max_pause))


class Periodic:
    """Work repeated every `every` seconds, and soon after `wake`.

    The work may return how long to wait before the next time instead (`inf`: until woken). `delay` is the time between
    `wake` and the work, so that events in quick succession are handled together. A failure of the database or the
    file system does not end it: it is logged once, and the work repeated after longer and longer pauses, up to
    `max_pause` seconds or `every`, whichever is longer.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[float | None]],
        every: float = inf,
        *,
        delay: float = 0.0,
        max_pause: float = MAX_PAUSE,
    ) -> None:
        self._name = name
        self._work = work
        self._every = every
        self._delay = delay
        self._max_pause = max_pause
        self._failures = 0
        self._wake = asyncio.Event()

    @property
    def failing(self) -> bool:
        """Whether the work failed the last time."""
        return self._failures > 0

    def wake(self) -> None:
        self._wake.set()

    async def run(self, first: float = 0.0) -> None:
        """Repeats the work until cancelled, for the first time after `first` seconds."""
        pause = first
        while True:
            if pause:
                await self._rest(pause)
            self._wake.clear()
            pause = await self.once()
            if not pause:
                await asyncio.sleep(0)

    async def once(self) -> float:
        """Does the work now. Returns how long to wait before the next time."""
        try:
            pause = await self._work()
        except (HeadraceError, OSError) as error:
            self._failures += 1
            level = error.level if isinstance(error, StoreError) else logging.ERROR
            logger.log(level if self._failures == 1 else logging.DEBUG, "%s failed: %s", self._name, error)
            first_pause = self._every if isfinite(self._every) else self._delay or 1.0
            return back_off(self._failures, first_pause, self._max_pause)
        self._failures = 0
        return self._every if pause is None else pause

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds if isfinite(seconds) else None):
                await self._wake.wait()
        except TimeoutError:
            return
        if self._delay:
            await asyncio.sleep(self._delay)


class Batched(Generic[K, V]):
    """Calls `work` with several keys at once, at most `most`: those that arrive while a call is in progress wait for
    the next one."""

    def __init__(self, work: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], most: int) -> None:
        self._work = work
        self._most = most
        self._waiting: deque[tuple[K, asyncio.Future[V | None]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """What `work` returns for a key; None if nothing. Raises its error."""
        future: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._working is None:
            self._working = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            results, error = dict[K, V](), None
            try:
                results = await self._work([key for key, _ in batch])
            except Exception as failure:  # whatever it is, the callers receive it
                error = failure
            for key, future in batch:
                if future.done():  # its caller was cancelled
                    continue
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(results.get(key))
        self._working = None


class Slots:
    """How many runs a worker drives at once. `free`: how many more it could drive now."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self._semaphore = asyncio.Semaphore(count)
        self._early_returns = 0  # slots that were given back too early, and are not given back again
        self._twins: list[Slots] = []

    def twin(self) -> Slots:
        """As many slots beside these, for runs that must not wait for them. A slot that is lent frees one of both."""
        twin = Slots(self.count)
        self._twins.append(twin)
        return twin

    async def acquire(self) -> None:
        await self._semaphore.acquire()
        self.free -= 1

    def release(self) -> None:
        if self._early_returns:
            self._early_returns -= 1
        else:
            self._release()

    def _release(self) -> None:
        self.free += 1
        self._semaphore.release()

    @contextmanager
    def lend(self) -> Generator[None]:
        """Frees a slot for the time in which its run waits for another one, which could not start otherwise."""
        holders = (self, *self._twins)
        for slots in holders:
            slots._release()
        try:
            yield
        finally:
            for slots in holders:
                slots._early_returns += 1
