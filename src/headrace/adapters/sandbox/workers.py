"""Confined processes, one a job, forked ahead by a warm one (`zygote`) that is started when it is first needed."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from headrace.adapters.sandbox.child_process import has_died, spawn
from headrace.adapters.sandbox.zygote_wire import BEGUN, CHILD, READY, RESULT, SIZE, UNCONFINED, Plan

logger = logging.getLogger(__name__)

MEGABYTE = 1024 * 1024
START_SECONDS = 60.0
KEPT = 4  # processes that wait for a job
_ATTEMPTS = 20  # at a job that nobody has begun
# libraries that would start a thread for each processor, in a process that is forked from
_ONE_THREAD: dict[str, str] = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class WorkerFailed(Exception):
    """A job came to no result; the text says why, as the code's author is to see it."""


class TimedOut(WorkerFailed):
    """A job took longer than it may."""


class NoConfinement(WorkerFailed):
    """This system cannot confine a process."""


class _NotBegun(Exception):
    """The process was gone before it looked at the job."""


class _ZygoteDied(WorkerFailed):
    """Not the code's fault: the process that jobs are forked from was killed."""


_DIED = "The code ended without an answer: it used too much memory, crashed the interpreter, or ended it."


@dataclass
class _Child:
    number: int
    connection: socket.socket


@dataclass
class _Zygote:
    """The process, and the children of it that wait for a job. `ordered`: how many more it has been asked for."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    reads: bool
    ready: deque[_Child] = field(default_factory=deque[_Child])
    takers: deque[asyncio.Future[_Child]] = field(default_factory=deque[asyncio.Future[_Child]])
    ordered: int = 0

    def order(self, kept: int) -> None:
        """Asks for as many children as there are too few, for those who wait and for `kept` to be ready besides."""
        for _ in range(len(self.takers) + kept - len(self.ready) - self.ordered):
            self.control.send(CHILD.pack(b"F", 0))
            self.ordered += 1


class Workers:
    """Runs jobs in confined processes. `plan` says what they can do, when the first is needed; `kept` is how many wait
    for a job, `answer` the most bytes of a result."""

    def __init__(self, plan: Callable[[], Awaitable[Plan]], *, kept: int = KEPT, answer: int = 10 * MEGABYTE) -> None:
        self._make_plan = plan
        self._kept = kept
        self._answer = answer
        self._starting = asyncio.Lock()
        self._zygote: _Zygote | None = None
        self._network = False
        self._closed = False

    @property
    def reads(self) -> bool:
        """Whether a confined process can import what is not loaded yet; true until it is known."""
        return self._zygote is None or self._zygote.reads

    async def run(self, job: Mapping[str, Any], seconds: float) -> bytes:
        """What the job answers, raw. The process is gone when this returns, however it returns."""
        again = True
        for _ in range(_ATTEMPTS):
            try:
                return await self._once(job, seconds)
            except _NotBegun:
                continue
            except _ZygoteDied:
                # a confined program leaves no trace, so it may as well run again; but for one that has the network
                if not again or self._network:
                    raise
                again = False
        raise WorkerFailed("The code was not begun: the processes that wait for it die.")

    async def start(self) -> None:
        """Makes a process ready. NoConfinement where there can be none."""
        zygote = await self._started()
        if not zygote.ready:
            zygote.ready.append(await self._take(zygote))

    async def _once(self, job: Mapping[str, Any], seconds: float) -> bytes:
        zygote = await self._started()
        child = await self._take(zygote)
        try:
            async with asyncio.timeout(seconds):
                return await self._converse(child.connection, job)
        except TimeoutError:
            raise TimedOut(f"The code ran longer than {seconds:g} seconds and was stopped.") from None
        except EOFError:
            if await asyncio.to_thread(has_died, zygote.process):
                self._forget(zygote)
                raise _ZygoteDied(_DIED) from None
            raise WorkerFailed(_DIED) from None
        finally:
            child.connection.close()
            self._end(zygote, child)

    async def _take(self, zygote: _Zygote) -> _Child:
        try:
            if zygote.ready:
                return zygote.ready.popleft()
            turn: asyncio.Future[_Child] = asyncio.get_running_loop().create_future()
            zygote.takers.append(turn)
            zygote.order(0)
        except OSError:
            self._forget(zygote)
            raise _NotBegun from None
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                zygote.ready.appendleft(turn.result())
            elif turn in zygote.takers:
                zygote.takers.remove(turn)
            raise

    def _end(self, zygote: _Zygote, child: _Child) -> None:
        """Ends a child that has had its job, and has another made in its place."""
        try:
            zygote.control.send(CHILD.pack(b"K", child.number))
            zygote.order(self._kept)
        except OSError:
            return  # the zygote is gone, and all its children with it

    async def _converse(self, connection: socket.socket, job: Mapping[str, Any]) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            sign = await self._exactly(connection, 1)
            if sign == READY:
                body = json.dumps({"most": self._answer, **job}).encode()
                await loop.sock_sendall(connection, SIZE.pack(len(body)) + body)
                sign = await self._exactly(connection, 1)
        except (EOFError, ConnectionError):
            raise _NotBegun from None
        try:
            if sign == BEGUN:
                sign = await self._exactly(connection, 1)
            (size,) = SIZE.unpack(await self._exactly(connection, SIZE.size))
            if size > 4 * self._answer:
                raise WorkerFailed(f"The result is larger than {self._answer} bytes.")
            answer = await self._exactly(connection, size)
        except ConnectionError:
            raise EOFError from None
        if sign == RESULT:
            return answer
        text = answer.decode("utf-8", "replace")
        raise NoConfinement(text) if sign == UNCONFINED else WorkerFailed(text)

    @staticmethod
    async def _exactly(connection: socket.socket, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        pieces, lacking = list[bytes](), size
        while lacking:
            piece = await loop.sock_recv(connection, min(lacking, MEGABYTE))
            if not piece:
                raise EOFError
            pieces.append(piece)
            lacking -= len(piece)
        return b"".join(pieces)

    # ------------------------------------------------------------------------------------------------- the zygote

    async def _started(self) -> _Zygote:
        async with self._starting:
            if self._closed:
                raise WorkerFailed("The sandbox is closed.")
            if self._zygote is not None and self._zygote.process.poll() is not None:
                self._forget(self._zygote)
            if self._zygote is None:
                self._zygote = await self._start()
            return self._zygote

    async def _start(self) -> _Zygote:
        if sys.platform != "linux":
            raise NoConfinement(f"no confinement is known for {sys.platform}")
        plan = await self._make_plan()
        self._network = plan.guard is not None
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setblocking(False)
        try:
            process = spawn("zygote", theirs.fileno(), _ONE_THREAD if plan.packages else {})
            mine.send(json.dumps(asdict(plan)).encode())
        except OSError as error:
            mine.close()
            raise NoConfinement(f"no process can be started: {error}") from None
        finally:
            theirs.close()
        answer: dict[str, Any] = {}
        verdict = "the process that prepares it died"
        try:
            async with asyncio.timeout(START_SECONDS):
                if raw := await asyncio.get_running_loop().sock_recv(mine, 1 << 16):
                    answer = json.loads(raw)
                    verdict = str(answer["verdict"])
        except TimeoutError:
            verdict = "the process that prepares it did not get ready"
        except ConnectionError:
            pass
        finally:
            if verdict != "ok":
                mine.close()
                process.kill()
                await asyncio.to_thread(process.wait)
        if verdict != "ok":
            raise NoConfinement(verdict)
        return self._known(_Zygote(process, mine, answer["reads"]), asks=answer["asks"])

    def _known(self, zygote: _Zygote, *, asks: bool) -> _Zygote:
        if not zygote.reads:
            logger.warning("This kernel has no Landlock: code nodes have those modules only that are loaded ahead.")
        if not asks:
            lacking = ", and have no network" if self._network else ""
            logger.warning("This kernel lets no filter ask: the threads of code nodes are not counted%s.", lacking)
        asyncio.get_running_loop().add_reader(zygote.control, self._receive, zygote)
        zygote.order(self._kept)
        return zygote

    def _receive(self, zygote: _Zygote) -> None:
        """A child that the zygote has made, or the zygote's end."""
        try:
            message, descriptors, _, _ = socket.recv_fds(zygote.control, CHILD.size, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._forget(zygote)
            return
        zygote.ordered -= 1
        while zygote.takers and zygote.takers[0].done():
            zygote.takers.popleft()
        if not descriptors:
            if zygote.takers:
                lacking = "No process can be started for the code: the system has no more of them, or of files."
                zygote.takers.popleft().set_exception(WorkerFailed(lacking))
            return
        connection = socket.socket(fileno=descriptors[0])
        connection.setblocking(False)
        child = _Child(CHILD.unpack(message)[1], connection)
        if zygote.takers:
            zygote.takers.popleft().set_result(child)
        else:
            zygote.ready.append(child)

    def _forget(self, zygote: _Zygote) -> None:
        """It is dead, or does not listen: the next job starts another."""
        if self._zygote is zygote:
            self._zygote = None
        if zygote.control.fileno() >= 0:
            self._let_go(zygote)
            zygote.process.wait()

    def _let_go(self, zygote: _Zygote) -> None:
        asyncio.get_running_loop().remove_reader(zygote.control)
        zygote.control.close()
        zygote.process.kill()
        for child in zygote.ready:
            child.connection.close()
        zygote.ready.clear()
        for turn in zygote.takers:
            if not turn.done():
                turn.set_exception(_NotBegun())
        zygote.takers.clear()

    async def aclose(self) -> None:
        """Ends the zygote, and with it every process that still runs."""
        async with self._starting:
            self._closed = True
            zygote, self._zygote = self._zygote, None
            if zygote is not None:
                self._let_go(zygote)
                await asyncio.to_thread(zygote.process.wait)
