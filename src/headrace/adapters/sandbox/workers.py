"""Confined processes, one for each job, forked in advance by a warm process (`zygote`), which is started when
needed."""

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

from headrace.adapters.sandbox.child_process import MEGABYTE, has_died, read_exactly, spawn
from headrace.adapters.sandbox.zygote_wire import BEGUN, CHILD, READY, RESULT, SIZE, UNCONFINED, Plan

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
KEPT = 4  # processes that wait for a job
_ATTEMPTS = 20  # to start a job
# libraries that would start threads in the zygote, which forks
_ONE_THREAD: dict[str, str] = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class WorkerFailed(Exception):
    """A job failed; the message is for the code's author."""


class TimedOut(WorkerFailed):
    """A job exceeded its time limit."""


class NoConfinement(WorkerFailed):
    """This system cannot confine a process."""


class _NotStarted(Exception):
    """The process ended before it read the job."""


class _ZygoteDied(WorkerFailed):
    """The zygote was killed, which is not the code's fault."""


_DIED = "The code ended without an answer: it used too much memory, crashed the interpreter, or ended it."


@dataclass
class _Child:
    number: int
    connection: socket.socket


@dataclass
class _Zygote:
    """The process, and its children that wait for a job. `ordered`: how many more were requested."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    reads: bool
    ready: deque[_Child] = field(default_factory=deque[_Child])
    takers: deque[asyncio.Future[_Child]] = field(default_factory=deque[asyncio.Future[_Child]])
    ordered: int = 0

    def request_children(self, kept: int) -> None:
        """Requests enough children for the waiting jobs, and `kept` more that are ready."""
        for _ in range(len(self.takers) + kept - len(self.ready) - self.ordered):
            self.control.send(CHILD.pack(b"F", 0))
            self.ordered += 1


class Workers:
    """Runs jobs in confined processes. `plan` returns their configuration, once it is needed; `kept` processes wait for
    jobs; `answer` is the maximum size of a result in bytes."""

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
        """Whether a confined process can import modules that are not loaded yet; true if unknown."""
        return self._zygote is None or self._zygote.reads

    async def run(self, job: Mapping[str, Any], seconds: float) -> bytes:
        """The raw result. The process is killed when this returns or raises."""
        again = True
        for _ in range(_ATTEMPTS):
            try:
                return await self._once(job, seconds)
            except _NotStarted:
                continue
            except _ZygoteDied:
                # without the network a confined program has no effects, so it can run again
                if not again or self._network:
                    raise
                again = False
        raise WorkerFailed("The code was not started, because the processes for it end.")

    async def start(self) -> None:
        """Starts a process in advance. NoConfinement if that is not possible."""
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
            zygote.request_children(0)
        except OSError:
            self._forget(zygote)
            raise _NotStarted from None
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                zygote.ready.appendleft(turn.result())
            elif turn in zygote.takers:
                zygote.takers.remove(turn)
            raise

    def _end(self, zygote: _Zygote, child: _Child) -> None:
        """Ends a child after its job, and requests a replacement."""
        try:
            zygote.control.send(CHILD.pack(b"K", child.number))
            zygote.request_children(self._kept)
        except OSError:
            return  # the zygote has ended, and so have its children

    async def _converse(self, connection: socket.socket, job: Mapping[str, Any]) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            sign = await read_exactly(connection, 1)
            if sign == READY:
                body = json.dumps({"most": self._answer, **job}).encode()
                await loop.sock_sendall(connection, SIZE.pack(len(body)) + body)
                sign = await read_exactly(connection, 1)
        except (EOFError, ConnectionError):
            raise _NotStarted from None
        try:
            if sign == BEGUN:
                sign = await read_exactly(connection, 1)
            (size,) = SIZE.unpack(await read_exactly(connection, SIZE.size))
            if size > 4 * self._answer:
                raise WorkerFailed(f"The result is larger than {self._answer} bytes.")
            answer = await read_exactly(connection, size)
        except ConnectionError:
            raise EOFError from None
        if sign == RESULT:
            return answer
        text = answer.decode("utf-8", "replace")
        raise NoConfinement(text) if sign == UNCONFINED else WorkerFailed(text)

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
            raise NoConfinement(f"confinement is not supported on {sys.platform}")
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
            verdict = "the process that prepares it did not become ready"
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
            logger.warning("This kernel has no Landlock: code nodes can only import preloaded modules.")
        if not asks:
            also = ", and they have no network" if self._network else ""
            logger.warning("This kernel has no supervised filters: threads of code nodes are not counted%s.", also)
        asyncio.get_running_loop().add_reader(zygote.control, self._receive, zygote)
        zygote.request_children(self._kept)
        return zygote

    def _receive(self, zygote: _Zygote) -> None:
        """Receives a child from the zygote, or notices its end."""
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
                message = "No process can be started for the code: the system's limit of processes or files is reached."
                zygote.takers.popleft().set_exception(WorkerFailed(message))
            return
        connection = socket.socket(fileno=descriptors[0])
        connection.setblocking(False)
        child = _Child(CHILD.unpack(message)[1], connection)
        if zygote.takers:
            zygote.takers.popleft().set_result(child)
        else:
            zygote.ready.append(child)

    def _forget(self, zygote: _Zygote) -> None:
        """It has ended or does not respond: the next job starts another."""
        if self._zygote is zygote:
            self._zygote = None
        if zygote.control.fileno() >= 0:
            self._kill(zygote)
            zygote.process.wait()

    def _kill(self, zygote: _Zygote) -> None:
        asyncio.get_running_loop().remove_reader(zygote.control)
        zygote.control.close()
        zygote.process.kill()
        for child in zygote.ready:
            child.connection.close()
        zygote.ready.clear()
        for turn in zygote.takers:
            if not turn.done():
                turn.set_exception(_NotStarted())
        zygote.takers.clear()

    async def aclose(self) -> None:
        """Ends the zygote and all its children."""
        async with self._starting:
            self._closed = True
            zygote, self._zygote = self._zygote, None
            if zygote is not None:
                self._kill(zygote)
                await asyncio.to_thread(zygote.process.wait)
