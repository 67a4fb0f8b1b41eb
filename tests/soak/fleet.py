"""Processes that accept runs and processes that drive them, as hosts: each has a data folder of its own, and reaches
the database and the wire through proxies of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import forking, postgresql, temporal_server, valkey
from tests.postgresql import Server as PostgreSQL
from tests.server.process import Serve
from tests.soak.recovery import Loss
from tests.temporal_server import Server as Temporal
from tests.valkey import ValkeyServer
from tests.wire.proxy import Proxy, proxy

_SECONDS = 120.0  # for what takes a few, or the length of a lease


async def until(condition: Callable[[], bool], what: str, seconds: float = _SECONDS) -> None:
    """Asks again and again, for what happens in other processes. The condition may take a while."""
    try:
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 (nothing here could set an event)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:.0f} s: {what}") from None


@dataclass
class Host:
    """Where a process runs: its folder, its variables, and its connections."""

    folder: Path
    environ: dict[str, str]
    proxies: list[Proxy]


@dataclass
class Servers:
    """What the processes share. Without Valkey, news go by way of PostgreSQL; without Temporal, it also dispatches."""

    postgresql: PostgreSQL
    valkey: ValkeyServer | None = None
    temporal: Temporal | None = None


SERVERS = ("postgresql", "valkey", "temporal")


def serving_all(stack: ExitStack, by: str) -> Servers:
    """PostgreSQL, and the one of `SERVERS` that is named. OSError says which cannot be started."""
    return Servers(
        stack.enter_context(postgresql.serving()),
        stack.enter_context(valkey.serving()) if by == "valkey" else None,
        stack.enter_context(temporal_server.serving(file=True)) if by == "temporal" else None,
    )


class Worker:
    """A `headrace worker`, which logs to a file."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.ready = host.folder / "ready.json"
        command = ["worker", "--data", str(host.folder / "data"), "--ready-file", str(self.ready)]
        environ = {**os.environ, **host.environ}
        with (host.folder / "log").open("w") as log:
            self.process = forking.start(command, env=environ, stdout=subprocess.DEVNULL, stderr=log)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, (self.host.folder / "log").read_text()
        return self.ready.exists()

    def kill(self) -> None:
        self.process.kill()  # also while it is stopped
        self.process.wait(60)


class Api:
    """A `headrace serve --no-worker`."""

    def __init__(self, host: Host, flow: Path) -> None:
        self.host = host
        self.serve = Serve(host.folder, [flow], host.environ, ["--no-worker"])


@dataclass
class Fleet:
    folder: Path
    servers: Servers
    environ: dict[str, str]
    flow: Path
    stack: AsyncExitStack
    apis: list[Api] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    hosts: int = 0
    outages: list[tuple[float, float]] = field(default_factory=list)  # of PostgreSQL: from when until when

    def __post_init__(self) -> None:
        self.url = self.servers.postgresql.new_database()

    async def start(self, apis: int = 2, workers: int = 3) -> None:
        for _ in range(apis):
            api = Api(await self._host("api"), self.flow)
            await asyncio.to_thread(api.serve.__enter__)
            # in a thread: while it ends, it needs its proxies, which are served by this loop
            self.stack.push_async_callback(asyncio.to_thread, api.serve.__exit__, None, None, None)
            self.apis.append(api)
        for _ in range(workers):
            self.workers.append(await self.worker())

    async def worker(self) -> Worker:
        worker = Worker(await self._host("worker"))
        self.stack.callback(worker.kill)
        await until(worker.is_ready, "a worker claims runs")
        return worker

    async def _host(self, kind: str) -> Host:
        self.hosts += 1
        folder = self.folder / f"{kind}{self.hosts}"
        folder.mkdir()
        servers = self.servers
        proxies = [database] = [await self.stack.enter_async_context(proxy(servers.postgresql.socket))]
        name = self.url.removeprefix("postgresql://headrace@/").partition("?")[0]
        environ = {"HEADRACE_DATABASE_URL": f"postgresql://headrace@127.0.0.1:{database.port}/{name}"}
        if servers.valkey is not None:
            proxies.append(wire := await self.stack.enter_async_context(proxy(servers.valkey.socket)))
            environ["HEADRACE_WIRE_URL"] = f"redis://127.0.0.1:{wire.port}"
        if servers.temporal is not None:
            environ["HEADRACE_TEMPORAL_ADDRESS"] = servers.temporal.address
            if kind == "worker":  # one that accepts runs has nothing to send while none comes
                proxies.append(engine := await self.stack.enter_async_context(proxy(servers.temporal.port)))
                environ["HEADRACE_TEMPORAL_ADDRESS"] = f"127.0.0.1:{engine.port}"
        return Host(folder, self.environ | environ, proxies)

    def owned(self, worker: Worker) -> set[str]:
        """The runs that are a worker's and have not ended."""
        joined = "FROM runs JOIN workers ON workers.id = runs.owner WHERE pid = %s"
        ended = "('succeeded', 'failed', 'stopped', 'partial-succeeded')"
        return {row[0] for row in self._rows(f"SELECT run {joined} AND status NOT IN {ended}", worker.process.pid)}

    def are_acquired(self, runs: set[str], dead: Worker) -> bool:
        """Whether all are of other workers."""
        joined = "FROM runs JOIN workers ON workers.id = runs.owner WHERE run = ANY(%s) AND pid <> %s"
        return self._rows(f"SELECT count(*) {joined}", [*runs], dead.process.pid) == [(len(runs),)]

    def errors(self) -> list[str]:
        """What the processes have logged as errors."""
        logs = [*(path.read_text().splitlines() for path in sorted(self.folder.glob("worker*/log")))]
        lines = [line for log in (*logs, *(api.serve.said for api in self.apis)) for line in log]
        return [line.rstrip() for line in lines if "[error" in line]

    def _rows(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        from psycopg import connect

        with connect(self.url) as connection:
            return connection.execute(statement, values).fetchall()

    # --------------------------------------------------------------------------------------------------- faults

    async def kill_worker(self, worker: Worker) -> Loss:
        """Kills it, and returns once others have its runs. Another one starts in its place."""
        runs = await asyncio.to_thread(self.owned, worker)
        loss = Loss(time.time(), runs)
        await asyncio.to_thread(worker.kill)
        self.workers.remove(worker)
        await until(lambda: self.are_acquired(loss.runs, worker), "the runs of a killed worker are acquired by others")
        self.workers.append(await self.worker())
        return loss

    async def pause_worker(self, worker: Worker) -> Loss:
        """Stops it for longer than its lease, and returns once others have its runs."""
        runs = await asyncio.to_thread(self.owned, worker)
        loss = Loss(time.time(), runs, "paused")
        worker.process.send_signal(signal.SIGSTOP)
        await until(lambda: self.are_acquired(loss.runs, worker), "the runs of a paused worker are acquired by others")
        return loss

    def resume_worker(self, worker: Worker) -> None:
        worker.process.send_signal(signal.SIGCONT)

    async def restart_api(self, api: Api) -> None:
        await asyncio.to_thread(api.serve.kill)
        await asyncio.to_thread(api.serve.__enter__)

    async def cut(self, forwarding: Proxy) -> None:
        """Closes a process's connections, until it has come back."""
        before = forwarding.connections
        forwarding.cut()
        forwarding.mend()
        await until(lambda: forwarding.connections > before, "a process connects again")

    async def stall(self, forwarding: Proxy) -> None:
        """Holds what a process sends and receives for a while, and lets it go on."""
        forwarding.stall()
        try:
            async with asyncio.timeout(_SECONDS):
                await forwarding.has_held.wait()
        finally:
            forwarding.mend()

    async def restart_wire(self) -> None:
        if self.servers.valkey is None:  # what listens is disconnected
            from tests.postgresql import execute

            statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'"
            await asyncio.to_thread(execute, self.url, statement)
            return
        await asyncio.to_thread(self.servers.valkey.stop)
        await asyncio.to_thread(self.servers.valkey.start)

    async def restart_postgresql(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        began = time.time()
        await asyncio.to_thread(self.servers.postgresql.stop)
        try:
            await meanwhile()
        finally:
            await asyncio.to_thread(self.servers.postgresql.start)
            self.outages.append((began, time.time()))

    async def restart_temporal(self) -> None:
        if self.servers.temporal is not None:
            await asyncio.to_thread(self.servers.temporal.kill)
            await asyncio.to_thread(self.servers.temporal.start)


@asynccontextmanager
async def fleet(folder: Path, servers: Servers, flow: Path, environ: dict[str, str]) -> AsyncGenerator[Fleet]:
    async with AsyncExitStack() as stack:
        result = Fleet(folder, servers, environ, flow, stack)
        await result.start()
        yield result
