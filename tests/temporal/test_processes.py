"""Serving processes whose runs Temporal brings to them: one is killed, one is paused, and so is the server."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import temporalio.client

from headrace.ids import new_id
from headrace.kernel.events import Record, RunEnded
from headrace.stores.sql import SqlStorage
from tests.server.gated import FINISHED, FLOW, Client, Peer, peer, read_until
from tests.server.process import Serve
from tests.server.test_worker import working
from tests.temporal_server import HEARTBEAT_SECONDS, Server, serving

__all__ = ["peer"]

RUNS = 4


class Fleet:
    """Processes on one database whose runs a server of Temporal brings to them."""

    def __init__(self, folder: Path, peer: Peer, stack: ExitStack, server: Server) -> None:
        self.folder = folder
        self.peer = peer
        self.stack = stack
        self.server = server
        self.task_queue = f"test-{new_id()}"

    def serve(self, *options: str) -> Serve:
        flow = self.folder / "flow.yml"
        flow.write_text(FLOW.format(url=f"http://{self.peer.address}"))
        return self.stack.enter_context(Serve(self.folder, [flow], self.environ, options))

    @property
    def environ(self) -> dict[str, str]:
        return {
            "HEADRACE_EGRESS_ALLOW": self.peer.address,
            "HEADRACE_TEMPORAL_ADDRESS": self.server.address,
            "HEADRACE_TEMPORAL_TASK_QUEUE": self.task_queue,
            "HEADRACE_TEMPORAL_HEARTBEAT": str(HEARTBEAT_SECONDS),
        }

    def submit(self, at: Serve, *names: str) -> dict[str, str]:
        """The ids of new runs by their names."""
        runs: dict[str, str] = {}
        for name in names:
            path = f"/api/v1/workflows/{at.apps['flow']['app_id']}/run"
            with Client(at).stream("POST", path, {"inputs": {"q": name}, "user": "u"}) as response:
                body = json.loads(response.read())
                assert response.status == 202, body
            runs[name] = body["workflow_run_id"]
        return runs

    def wait(self, calls: int) -> None:
        """Until so many more calls wait for the gate."""
        for _ in range(calls):
            assert self.peer.waiting.acquire(timeout=60)

    async def check(self, at: Serve, runs: dict[str, str]) -> dict[str, list[Record]]:
        """Waits for the ends of the runs. Their records: each run has ended once, and well."""
        for name, run in runs.items():
            ended = await asyncio.to_thread(_ended, at, run)
            assert (ended["status"], ended["outputs"]["two"]) == ("succeeded", f"/second/{name}")
        store = await SqlStorage.open(f"sqlite:///{self.folder}/data/headrace.db")
        records = {run: await store.journal.read(run) for run in runs.values()}
        await store.aclose()
        client = await temporalio.client.Client.connect(self.server.address)
        for run, items in records.items():
            drives = await client.count_activities(f"HeadraceRun = '{run}' AND HeadraceWorkspace = 'default'")
            assert drives.count == 1, "Temporal has brought it, and found it by its names"
            assert [record.seq for record in items] == [*range(1, len(items) + 1)]
            assert sum(isinstance(record.event, RunEnded) for record in items) == 1
        return records


def _ended(serve: Serve, run: str) -> dict[str, object]:
    with Client(serve).stream("GET", f"/v1/workflow/{run}/events?user=u") as stream:
        return read_until(stream, FINISHED)[0][-1]["data"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def fleet(tmp_path: Path, peer: Peer, stack: ExitStack, temporal_server: Server) -> Fleet:
    return Fleet(tmp_path, peer, stack, temporal_server)


NAMES = [f"run{number}" for number in range(RUNS)]


async def test_the_runs_of_a_killed_worker_continue_elsewhere(fleet: Fleet) -> None:
    killed, other = fleet.serve(), fleet.serve()
    runs = fleet.submit(other, *NAMES)
    fleet.wait(RUNS)
    before = len(fleet.peer.calls)
    killed.kill()
    fleet.peer.gate.set()
    await fleet.check(other, runs)
    assert not [path for path, _ in fleet.peer.calls[before:] if path.startswith("/first")], "it was not repeated"


async def test_one_process_accepts_runs_and_another_drives_them(fleet: Fleet) -> None:
    api = fleet.serve("--no-worker")
    runs = fleet.submit(api, *NAMES)
    fleet.peer.gate.set()
    with working(fleet.folder, fleet.environ):
        await fleet.check(api, runs)


async def test_a_worker_that_was_paused_lets_go_of_its_runs(fleet: Fleet) -> None:
    paused = fleet.serve()
    runs = fleet.submit(paused, *NAMES)
    fleet.wait(RUNS)
    other = fleet.serve()
    paused.process.send_signal(signal.SIGSTOP)
    fleet.wait(RUNS)  # the other has them
    fleet.peer.gate.set()
    records = await fleet.check(other, runs)
    paused.process.send_signal(signal.SIGCONT)
    assert await fleet.check(paused, runs) == records


async def test_a_server_that_was_away_loses_no_run(
    tmp_path: Path, peer: Peer, stack: ExitStack, temporal_server: Server
) -> None:
    fleet = Fleet(tmp_path, peer, stack, stack.enter_context(serving(file=True)))
    workers = [fleet.serve() for _ in range(2)]
    runs = fleet.submit(workers[0], "open0", "open1")
    fleet.wait(2)
    fleet.server.kill()
    runs |= fleet.submit(workers[1], *NAMES)  # accepted nevertheless
    fleet.peer.gate.set()
    fleet.server.start()
    await fleet.check(workers[0], runs)


async def working_on(fleet: Fleet, batch: str) -> int:
    """The process that works on a batch, as Temporal knows it."""
    client = await temporalio.client.Client.connect(fleet.server.address)
    async with asyncio.timeout(60):
        while True:
            async for item in client.list_activities(f"TaskQueue = '{fleet.task_queue}-batch'"):
                described = await client.get_activity_handle(item.activity_id).describe()
                if batch in item.activity_id and described.last_worker_identity:
                    return int(described.last_worker_identity.partition("@")[0])
            await asyncio.sleep(0.05)


def add_batch(at: Serve, lines: int) -> str:
    """The id of a new batch, of which three lines run at a time."""
    body = "".join(json.dumps({"inputs": {"q": f"line{number}"}}) + "\n" for number in range(lines))
    app = at.apps["flow"]["app_id"]
    url = f"{at.url}/api/v1/workflows/{app}/batch?concurrency=3"
    headers = {"Authorization": f"Bearer {at.keys['flow']}", "Content-Type": "application/jsonl"}
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=60) as response:
        return json.load(response)["batch_id"]


async def test_the_batch_of_a_killed_process_is_continued_by_another(fleet: Fleet) -> None:
    processes = [fleet.serve() for _ in range(2)]
    batch = await asyncio.to_thread(add_batch, processes[0], 12)
    fleet.wait(3)
    pid = await working_on(fleet, batch)
    killed, other = sorted(processes, key=lambda process: process.process.pid != pid)
    assert killed.process.pid == pid
    killed.kill()
    fleet.peer.gate.set()
    detail = await until(other, f"/api/v1/batches/{batch}", lambda detail: detail["status"] == "ended")
    assert detail["succeeded"] == 12
    assert {path for path, _ in fleet.peer.calls if path.startswith("/first")} == {
        f"/first/line{number}" for number in range(12)
    }
    client = await temporalio.client.Client.connect(fleet.server.address)
    assert (await client.count_activities(f"TaskQueue = '{fleet.task_queue}-batch'")).count == 1


async def test_the_callback_of_a_killed_process_is_sent_by_another(fleet: Fleet) -> None:
    """It dies in the first attempt, of which Temporal knows nothing."""
    attempts, release = threading.Semaphore(0), threading.Event()

    def on_call() -> None:
        if fleet.peer.calls[-1][0] == "/callback":
            attempts.release()
            release.wait(60)

    fleet.peer.on_call = on_call
    fleet.peer.gate.set()
    api, killed = fleet.serve("--no-worker"), fleet.serve()
    path = f"/api/v1/workflows/{api.apps['flow']['app_id']}/run"
    body = {"inputs": {"q": "a"}, "user": "u", "callback_url": f"http://{fleet.peer.address}/callback"}
    with Client(api).stream("POST", path, body) as response:
        run = json.loads(response.read())["workflow_run_id"]
    assert await asyncio.to_thread(attempts.acquire, timeout=60)
    with working(fleet.folder, fleet.environ):
        killed.kill()
        assert await asyncio.to_thread(attempts.acquire, timeout=60)
        release.set()
        of_run = f"/api/v1/workflow-runs/{run}/callbacks"
        await until(api, of_run, lambda callbacks: callbacks["data"][0]["status"] == "delivered")
    assert [path for path, _ in fleet.peer.calls].count("/callback") == 2


async def until(at: Serve, path: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What a process responds once it is what is waited for."""
    async with asyncio.timeout(60):
        while True:
            body = await asyncio.to_thread(Client(at).get, path)
            if reached(body):
                return body
            await asyncio.sleep(0.05)
