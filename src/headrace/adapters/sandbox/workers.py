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
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def run(self, job: Mapping[str, Any], modules: list[str], seconds: float) -> bytes:
        """What the job answers, raw. The process is gone when this returns, however it returns."""
        async with self._slots:
            control = await self._started()
            try:
                connection, number = self._fork(control)
            except OSError:  # the zygote was killed since
                self._forget(control)
                control = await self._started()
                connection, number = self._fork(control)
            try:
                async with asyncio.timeout(seconds):
                    return await self._converse(connection, job, modules, seconds)
            except TimeoutError:
                raise TimedOut(f"The code ran longer than {seconds:g} seconds and was stopped.") from None
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
        except (ConnectionError, EOFError):
            raise WorkerFailed(
                "The code ended without an answer: it used too much memory, crashed the interpreter, or ended it."
            ) from None
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

    async def _started(self) -> socket.socket:
        async with self._starting:
            if self._process is not None and self._process.poll() is not None and self._control is not None:
                self._forget(self._control)
            if self._control is None:
                self._process, self._control = await self._start()
            return self._control

    async def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if sys.platform != "linux":
            raise NoConfinement(f"no confinement is known for {sys.platform}")
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setblocking(False)
        try:
            process = await asyncio.to_thread(self._spawn, theirs.fileno())
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
            env={"TZ": "UTC", "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"},
            cwd="/",
            pass_fds=[descriptor],
            start_new_session=True,  # a Ctrl-C at the terminal is for the service
        )

    def _forget(self, control: socket.socket) -> None:
        """The zygote is dead: the next job starts another."""
        if self._control is control:
            control.close()
            self._control = None
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None

    async def aclose(self) -> None:
        """Ends the zygote, and with it every process that still runs."""
        async with self._starting:
            process, control = self._process, self._control
            self._process = self._control = None
            if control is not None:
                control.close()
            if process is not None:
                process.kill()
                await asyncio.to_thread(process.wait)
