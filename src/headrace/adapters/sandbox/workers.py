"""Confined processes, one a job, forked from a warm one (`zygote`) that this side starts when it is first needed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from headrace.adapters.sandbox.zygote_wire import JOB, SIZE

MEGABYTE = 1024 * 1024
START_SECONDS = 20.0
_ENVIRONMENT = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"}
_NEEDED = ("LD_LIBRARY_PATH",)  # some interpreters do not start without; the zygote forgets it
_BOOT = """
import sys
sys.path.insert(0, sys.argv[2])
from headrace.adapters.sandbox.zygote import main
main(int(sys.argv[1]))
"""


class WorkerFailed(Exception):
    """A job came to no result; the text tells why, as the code's author is to see it."""


class TimedOut(WorkerFailed):
    """A job took longer than it may."""


class NoConfinement(WorkerFailed):
    """This system cannot confine a process."""


class _ZygoteDied(WorkerFailed):
    """Not the code's fault: the process that jobs are forked from was killed."""


_DIED = "The code ended without an answer: it used too much memory, crashed the interpreter, or ended it."


def _has_died(process: subprocess.Popen[bytes]) -> bool:
    """A process that is about to be gone is given a moment: its children hear of it before anybody else."""
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return False
    return True


class Workers:
    """Runs jobs in confined processes, at most `concurrent` at once. Memory in bytes."""

    def __init__(
        self, concurrent: int | None = None, memory: int = 256 * MEGABYTE, answer: int = 10 * MEGABYTE
    ) -> None:
        self._slots = asyncio.Semaphore(concurrent or max(16, 4 * (os.cpu_count() or 1)))
        self._memory = memory
        self._answer = answer
        self._numbers = count(1)
        self._starting = asyncio.Lock()
        self._zygote: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        self._closed = False

    async def run(self, job: Mapping[str, Any], modules: list[str], seconds: float) -> bytes:
        """What the job answers, raw. The process is gone when this returns, however it returns."""
        async with self._slots:
            try:
                return await self._once(job, modules, seconds)
            except _ZygoteDied:
                # a confined program leaves no trace, so it may as well run again
                return await self._once(job, modules, seconds)

    async def _once(self, job: Mapping[str, Any], modules: list[str], seconds: float) -> bytes:
        process, control = await self._started()
        try:
            connection, number = self._fork(control)
        except OSError:
            self._forget(process)
            raise _ZygoteDied(_DIED) from None
        try:
            async with asyncio.timeout(seconds):
                return await self._converse(connection, job, modules, seconds)
        except TimeoutError:
            raise TimedOut(f"The code ran longer than {seconds:g} seconds and was stopped.") from None
        except EOFError:
            if await asyncio.to_thread(_has_died, process):
                self._forget(process)
                raise _ZygoteDied(_DIED) from None
            raise WorkerFailed(_DIED) from None
        finally:
            connection.close()
            self._kill(control, number)

    def _fork(self, control: socket.socket) -> tuple[socket.socket, int]:
        mine, theirs = socket.socketpair()
        number = next(self._numbers)
        try:
            socket.send_fds(control, [JOB.pack(b"F", number)], [theirs.fileno()])
        except OSError:
            mine.close()
            raise
        finally:
            theirs.close()
        mine.setblocking(False)
        return mine, number

    async def _converse(
        self, connection: socket.socket, job: Mapping[str, Any], modules: list[str], seconds: float
    ) -> bytes:
        how = {"modules": modules, "memory": self._memory, "seconds": int(seconds) + 2}
        loop = asyncio.get_running_loop()
        try:
            parts = [json.dumps(part).encode() for part in (how, {"most": self._answer, **job})]
            await loop.sock_sendall(connection, b"".join(SIZE.pack(len(part)) + part for part in parts))
            sign = await self._exactly(connection, 1)
            (size,) = SIZE.unpack(await self._exactly(connection, SIZE.size))
            if size > 4 * self._answer:
                raise WorkerFailed(f"The result is larger than {self._answer} bytes.")
            answer = await self._exactly(connection, size)
        except ConnectionError:
            raise EOFError from None
        match sign:
            case b"R":
                return answer
            case b"X":
                raise NoConfinement(answer.decode("utf-8", "replace"))
            case _:
                raise WorkerFailed(answer.decode("utf-8", "replace"))

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

    @staticmethod
    def _kill(control: socket.socket, number: int) -> None:
        try:
            control.send(JOB.pack(b"K", number))
        except OSError:
            return  # the zygote is gone, and all its children with it

    # ------------------------------------------------------------------------------------------------- the zygote

    async def _started(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        async with self._starting:
            if self._closed:
                raise WorkerFailed("The sandbox is closed.")
            if self._zygote is not None and self._zygote[0].poll() is not None:
                self._forget(self._zygote[0])
            if self._zygote is None:
                self._zygote = await self._start()
            return self._zygote

    async def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if sys.platform != "linux":
            raise NoConfinement(f"no confinement is known for {sys.platform}")
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setblocking(False)
        try:
            process = self._spawn(theirs.fileno())  # a millisecond or two, once
        except OSError as error:
            mine.close()
            raise NoConfinement(f"no process can be started: {error}") from None
        finally:
            theirs.close()
        verdict = ""
        try:
            async with asyncio.timeout(START_SECONDS):
                verdict = (await asyncio.get_running_loop().sock_recv(mine, 4096)).decode("utf-8", "replace")
        except TimeoutError:
            verdict = "the process that prepares it did not get ready"
        finally:
            if verdict != "ok":
                mine.close()
                process.kill()
                await asyncio.to_thread(process.wait)
        if verdict != "ok":
            raise NoConfinement(verdict or "the process that prepares it died")
        return process, mine

    @staticmethod
    def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
        root = Path(__file__).resolve().parents[3]
        return subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _BOOT, str(descriptor), str(root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT | {name: os.environ[name] for name in _NEEDED if name in os.environ},
            cwd="/",
            pass_fds=[descriptor],
            start_new_session=True,  # a Ctrl-C at the terminal is for the service
        )

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        """It is dead, or does not listen: the next job starts another."""
        if self._zygote is not None and self._zygote[0] is process:
            self._zygote[1].close()
            self._zygote = None
            process.kill()
            process.wait()

    async def aclose(self) -> None:
        """Ends the zygote, and with it every process that still runs."""
        async with self._starting:
            self._closed = True
            zygote, self._zygote = self._zygote, None
            if zygote is not None:
                process, control = zygote
                control.close()
                process.kill()
                await asyncio.to_thread(process.wait)
