"""JavaScript in Node.js: a confined process for each call, started in advance by a keeper (`node_keeper`)."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from headrace.adapters.sandbox.child_process import MEGABYTE, has_died, read_exactly
from headrace.adapters.sandbox.egress_proxy import EgressProxy
from headrace.adapters.sandbox.keeper import START_SECONDS, Keeper
from headrace.adapters.sandbox.node_program import INSTALL, NETWORK, NodeProgram, NoNode, find_node
from headrace.adapters.sandbox.node_wire import SIZE
from headrace.adapters.sandbox.workers import NoConfinement, TimedOut, WorkerFailed

logger = logging.getLogger(__name__)

WAITING, WAITING_BUSY = 2, 4  # processes kept ready; the latter after a call in the last BUSY_SECONDS
BUSY_SECONDS = 60.0
_PROCESSOR_SECONDS = 600  # of all threads of a process; wall time is limited by the pool
ELSEWHERE = "Run Headrace on Linux with Landlock, or set HEADRACE_SANDBOX_URL to a sandbox service."
_ATTEMPTS = 20  # to start a job
_DIED = "The code ended without an answer: it used too much memory, crashed Node.js, or ended it."


class _KeeperDied(Exception):
    """The keeper was killed, which is not the code's fault. `started`: the program may have been running."""

    def __init__(self, *, started: bool = False) -> None:
        super().__init__()
        self.started = started


class _Waiting(NamedTuple):
    """A process that is ready for its only job."""

    number: int
    connection: socket.socket
    processor_seconds: int


class NodePool:
    """Runs JavaScript, each program in its own process. `memory` and `answer` (the longest result) in bytes.

    Nothing is started before the first call. Programs use the network through `egress`. `find` returns Node.js;
    `leave_out` is for tests, see `node_wire.NodePlan`.
    """

    def __init__(
        self,
        memory: int = 256 * MEGABYTE,
        answer: int = 10 * MEGABYTE,
        *,
        egress: EgressProxy | None = None,
        find: Callable[[], NodeProgram] = find_node,
        leave_out: str = "",
    ) -> None:
        self._memory, self._answer, self._egress = memory, answer, egress
        self._find = find
        self._make = partial(Keeper, find, leave_out)
        self._numbers = count(1)
        self._opening: asyncio.Task[Keeper] | None = None
        self._waiting = deque[_Waiting]()
        self._filling: asyncio.Task[None] | None = None
        self._trimming: asyncio.TimerHandle | None = None
        self._lacking: str | None = None
        self._called = float("-inf")
        self._closed = False

    async def missing(self) -> str | None:
        """Why Node.js is not available, and what to do; None if it is. Starts the keeper."""
        if self._lacking is None:
            try:
                await self._keeper()
            except (NoNode, NoConfinement) as error:
                self._lacking = _advice(error)
                logger.warning("JavaScript runs without Node.js, so many features are missing: %s", self._lacking)
        return self._lacking

    def missing_now(self) -> str | None:
        """Like `missing`, but without an event loop and without starting anything; blocks for about half a second."""
        if self._lacking is None and self._opened() is None:
            try:
                self._make().close()
            except (NoNode, NoConfinement) as error:
                self._lacking = _advice(error)
        return self._lacking

    @property
    def network_missing(self) -> str | None:
        """Why programs have no network, as a relative clause; None if they have. Blocks briefly if Node.js has not been
        started yet."""
        if self._egress is None:
            return "which is only available with HEADRACE_CODE_EGRESS, or in a sandbox service (HEADRACE_SANDBOX_URL)."
        keeper = self._opened()
        if keeper is not None and keeper.trial["network"]:
            return None
        try:
            version = keeper.trial["version"] if keeper is not None else self._find().version
        except NoNode as error:
            return f"which needs Node.js {NETWORK}: {_advice(error)}"
        if int(version.partition(".")[0]) < NETWORK:
            return f"which needs Node.js {NETWORK}; here is {version}."
        return "but this kernel does not support supervising a program's connections." if keeper is not None else None

    async def run(self, code: str, inputs: Mapping[str, Any], seconds: float) -> str:
        """The result of the program's `main`, or of its promise, as JSON. The process is killed when this returns or
        raises. WorkerFailed."""
        job = json.dumps({"code": code, "inputs": json.dumps(inputs), "most": self._answer}).encode()
        try:
            return (await self._once(job, seconds)).decode("utf-8", "replace")
        except _KeeperDied as died:
            if died.started and self._egress is not None:
                raise WorkerFailed(_DIED) from None
            try:
                # without the network a confined program has no effects, so it can run again
                return (await self._once(job, seconds)).decode("utf-8", "replace")
            except _KeeperDied:
                raise WorkerFailed(_DIED) from None

    async def _once(self, job: bytes, seconds: float) -> bytes:
        for _ in range(_ATTEMPTS):
            keeper = await self._keeper()
            node = self._take(keeper, seconds) or await self._start(keeper, seconds)
            try:
                async with asyncio.timeout(seconds):
                    if await self._send(node.connection, job):
                        return await self._result(node.connection)
            except TimeoutError:
                raise TimedOut(f"The code ran longer than {seconds:g} seconds and was stopped.") from None
            except EOFError:
                if await asyncio.to_thread(has_died, keeper.process):
                    self._forget(keeper)
                    raise _KeeperDied(started=True) from None
                raise WorkerFailed(_DIED) from None
            finally:
                self._end(keeper, node)
                self._called = asyncio.get_running_loop().time()
                self._refill()
        raise WorkerFailed("The code was not started, because the processes for it end.")

    async def _send(self, connection: socket.socket, job: bytes) -> bool:
        """Sends a process its job. False if it had ended before."""
        try:
            await asyncio.get_running_loop().sock_sendall(connection, SIZE.pack(len(job)) + job)
            return await read_exactly(connection, 1) == b"b"
        except (EOFError, ConnectionError):
            return False

    async def _result(self, connection: socket.socket) -> bytes:
        try:
            sign, answer = await self._framed(connection)
        except ConnectionError:
            raise EOFError from None
        if sign != b"R":
            raise WorkerFailed(answer.decode("utf-8", "replace"))
        return answer

    async def _framed(self, connection: socket.socket) -> tuple[bytes, bytes]:
        sign = await read_exactly(connection, 1)
        (size,) = SIZE.unpack(await read_exactly(connection, SIZE.size))
        if size > self._answer or sign not in (b"R", b"E", b"X"):  # a program can write there, too
            raise WorkerFailed(f"The result is larger than {self._answer} bytes, or is not one.")
        return sign, await read_exactly(connection, size)

    # ---------------------------------------------------------------------------------------- processes that wait

    def _take(self, keeper: Keeper, seconds: float) -> _Waiting | None:
        while self._waiting:
            node = self._waiting.popleft()
            if node.processor_seconds >= seconds and _is_alive(node.connection):
                return node
            self._end(keeper, node)
        return None

    async def _start(self, keeper: Keeper, seconds: float) -> _Waiting:
        """A process that is ready. _KeeperDied; WorkerFailed if it does not become ready."""
        processor_seconds = max(_PROCESSOR_SECONDS, int(2 * seconds))
        number = next(self._numbers)
        try:
            connection = keeper.start_node(number, self._memory, processor_seconds)
        except OSError:
            self._forget(keeper)
            raise _KeeperDied() from None
        node = _Waiting(number, connection, processor_seconds)
        try:
            failure = await _start_failure(connection)
            if failure is None:
                return node
            # without its keeper a process may end before it is ready, or report a broken pipe
            if await asyncio.to_thread(has_died, keeper.process):
                self._forget(keeper)
                raise _KeeperDied()
            raise WorkerFailed(f"Node.js did not start: {failure}.")
        except BaseException:
            self._end(keeper, node)
            raise

    def _end(self, keeper: Keeper, node: _Waiting) -> None:
        node.connection.close()
        keeper.kill_node(node.number)

    def _refill(self) -> None:
        if not self._closed and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(self._fill())

    def _target(self) -> int:
        busy = asyncio.get_running_loop().time() - self._called < BUSY_SECONDS
        return WAITING_BUSY if busy else WAITING

    async def _fill(self) -> None:
        """One after another, to leave the processor to running programs."""
        try:
            keeper = await self._keeper()
            while len(self._waiting) < self._target() and not self._closed:
                self._waiting.append(await self._start(keeper, 0))
        except (_KeeperDied, WorkerFailed, NoNode):
            return  # the next call fails the same way, and reports it
        if self._trimming is None:
            self._trimming = asyncio.get_running_loop().call_later(BUSY_SECONDS, self._trim)

    def _trim(self) -> None:
        self._trimming = None
        keeper = self._opened()
        if keeper is None:
            return
        while len(self._waiting) > self._target():
            self._end(keeper, self._waiting.pop())
        if len(self._waiting) > WAITING:
            self._trimming = asyncio.get_running_loop().call_later(BUSY_SECONDS, self._trim)

    # ---------------------------------------------------------------------------------------------- the keeper

    async def _keeper(self) -> Keeper:
        if self._closed:
            raise WorkerFailed("The sandbox is closed.")
        keeper = self._opened()
        if keeper is not None and keeper.process.poll() is not None:
            self._forget(keeper)
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._on_opened)
        # shielded, because other callers may wait for it, too
        return await asyncio.shield(self._opening)

    async def _open(self) -> Keeper:
        guard = await self._egress.start() if self._egress is not None else None
        return await asyncio.to_thread(self._make, guard)

    def _on_opened(self, opening: asyncio.Task[Keeper]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            self._opening = None
            return
        trial = opening.result().trial
        logger.info("JavaScript runs in Node.js %s, confined (%s).", trial["version"], _protection(trial))

    def _opened(self) -> Keeper | None:
        opening = self._opening
        done = opening is not None and opening.done() and not opening.cancelled() and opening.exception() is None
        return opening.result() if opening is not None and done else None

    def _forget(self, keeper: Keeper) -> None:
        """It has ended or does not respond: the next job starts another."""
        if self._opened() is keeper:
            self._opening = None
            self._drop_waiting()
            keeper.close()

    def _drop_waiting(self) -> None:
        while self._waiting:
            self._waiting.pop().connection.close()

    async def aclose(self) -> None:
        """Ends the keeper and all its processes."""
        self._closed = True
        if self._trimming is not None:
            self._trimming.cancel()
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        if self._opening is not None:
            await asyncio.wait([self._opening])
        self._drop_waiting()  # also what a keeper that is forgotten has left
        if (keeper := self._opened()) is not None:
            await asyncio.to_thread(keeper.close)


def _advice(error: NoNode | NoConfinement) -> str:
    return f"{error}. {INSTALL if isinstance(error, NoNode) else ELSEWHERE}"


def _protection(trial: Mapping[str, Any]) -> str:
    if not trial["supervised"]:
        why = trial["unsupervised"]
        return f"by Landlock only: names and sizes of files are visible, threads are not counted; {why}"
    return "by a supervised filter and Landlock" if trial["landlock"] else "by a supervised filter only"


def _is_alive(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


async def _start_failure(connection: socket.socket) -> str | None:
    """Waits until a process is ready; why it is not."""
    try:
        async with asyncio.timeout(START_SECONDS):
            if await read_exactly(connection, 1) == b"r":
                return None
            (size,) = SIZE.unpack(await read_exactly(connection, SIZE.size))
            return (await read_exactly(connection, min(size, 4096))).decode("utf-8", "replace")
    except TimeoutError:
        return "it did not become ready"
    except (EOFError, ConnectionError):
        return "it ended while it started, for want of memory or of processes"
