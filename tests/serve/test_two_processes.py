"""Several serving processes on one database: each does its own runs, and those of one that dies are taken up once."""

from __future__ import annotations

import pathlib
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from headrace.ids import new_id
from headrace.kernel.events import Record, RunQueued, RunResumed
from headrace.stores.sql import SqlStore
from tests.serve.gated import FINISHED, FLOW, Client, Event, Peer, heard
from tests.serve.process import Serve

RUNS = 20


class World:
    """A data folder, whose processes run no more than `RUNS` runs at once."""

    def __init__(self, folder: pathlib.Path, peer: Peer, stack: ExitStack) -> None:
        self.folder = folder
        self.peer = peer
        self.stack = stack
        self.flow = folder / "flow.yml"
        self.flow.write_text(FLOW.format(url=f"http://{peer.address}"))

    def serve(self) -> Serve:
        environ = {"HEADRACE_EGRESS_ALLOW": self.peer.address, "HEADRACE_CONCURRENCY": str(RUNS)}
        return self.stack.enter_context(Serve(self.folder, [self.flow], environ))

    def held(self, serve: Serve) -> dict[str, str]:
        """Runs begun in a process, which wait for the gate: ids by name."""
        found: dict[str, str] = {}
        for name in (f"run{n}" for n in range(RUNS)):
            asked = {"inputs": {"q": name}, "user": "u", "response_mode": "streaming"}
            stream = self.stack.enter_context(Client(serve).stream("POST", "/v1/workflows/run", asked))
            events, _ = heard(stream, ("node_started", "second"))
            found[name] = events[0]["workflow_run_id"]
        self.wait(RUNS)
        return found

    def wait(self, calls: int) -> None:
        """Until so many more calls wait for the gate."""
        for _ in range(calls):
            assert self.peer.waiting.acquire(timeout=20)

    @property
    def calls(self) -> Counter[str]:
        return Counter(path for path, _ in self.peer.calls)

    async def store(self) -> SqlStore:
        """One of a process that does no runs."""
        return await SqlStore.open(f"sqlite:///{self.folder}/data/headrace.db")


@pytest.fixture
def world(tmp_path: pathlib.Path, peer: Peer) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, peer, stack)


def ended(serve: Serve, run: str) -> Event:
    with Client(serve).stream("GET", f"/v1/workflow/{run}/events?user=u") as stream:
        return heard(stream, FINISHED)[0][-1]["data"]


async def test_each_does_its_own_runs(world: World) -> None:
    mine, other = world.serve(), world.serve()
    runs = world.held(mine)
    # one that is nobody's, newer than the others: only the other process has room for it, and when it has come to it,
    # it has been through all that it may take up
    store, app = await world.store(), mine.apps["flow"]
    known = await store.find_run(runs["run0"])
    assert known is not None
    queued = RunQueued(app["app_id"], app["workflow_id"], "task", "u", {"q": "late"}, {}, known.end_user)
    late = new_id()
    await store.append([Record(late, 1, time.time(), queued)])
    world.wait(1)
    world.peer.gate.set()
    for name, run in runs.items():
        done = ended(mine, run)
        assert (done["status"], done["outputs"]["two"]) == ("succeeded", f"/second/{name}")
    assert ended(other, late)["status"] == "succeeded"
    assert set(world.calls.values()) == {1}
    assert len(world.calls) == 2 * (RUNS + 1)
    for run in runs.values():
        assert not any(isinstance(record.event, RunResumed) for record in await store.read(run))
    await store.aclose()


async def test_the_runs_of_a_killed_one_are_taken_up_by_one_of_the_others(world: World) -> None:
    killed, *others = [world.serve() for _ in range(3)]
    runs = world.held(killed)
    began = time.monotonic()
    killed.kill()
    world.wait(RUNS)
    assert time.monotonic() - began < 10, "the others need not wait for its lease to end"
    world.peer.gate.set()
    for name, run in runs.items():
        for other in others:
            done = ended(other, run)
            assert (done["status"], done["outputs"]["two"]) == ("succeeded", f"/second/{name}")
    assert world.calls == {f"/{node}/{name}": 1 + (node == "second") for node in ("first", "second") for name in runs}
    store = await world.store()
    for run in runs.values():
        taken = [record.event for record in await store.read(run) if isinstance(record.event, RunResumed)]
        assert taken == [RunResumed(recovered=True)]
    await store.aclose()
