"""Waiting for a run's end, and what it costs to ask again and again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from headrace.api.native import run_watch
from headrace.errors import StoreError
from headrace.kernel.events import Record, RunEnded
from tests.api.serving import Gate, Scripted, Serving, workflow
from tests.native.asynchronous import ask, look, submitted, until


async def test_the_answer_comes_with_the_end(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"], outputs={"out": ("gate", "text")}))
    gate = Scripted.scripts["gate"] = Gate(["done"])
    run = await submitted(app)
    await gate.reached.wait()
    waiting = [asyncio.create_task(look(app, run, wait=60)) for _ in range(5)]
    await until(app, run, "running")
    assert not any(task.done() for task in waiting)
    gate.let(2)
    for body in await asyncio.gather(*waiting):
        assert (body["status"], body["outputs"]) == ("succeeded", {"out": "done"})
        assert time.time() - body["finished_at_ms"] / 1000 < 50, "it is told of the end, not of the wait's"


async def test_after_so_many_seconds_it_is_told_as_it_stands(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await gate.reached.wait()
    began = time.monotonic()
    assert (await look(app, run, wait=0.2))["status"] == "running"
    assert time.monotonic() - began > 0.19
    gate.let()
    assert (await look(app, run, wait=60))["status"] == "succeeded"


async def test_a_run_that_has_ended_is_not_waited_for(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow())
    run = await submitted(app)
    await look(app, run, wait=60)
    began = time.monotonic()
    assert (await look(app, run, wait=60))["status"] == "succeeded"
    assert time.monotonic() - began < 50


async def test_a_pause_is_no_end(server: Serving) -> None:
    app = await server.add("tiny.yml", workflow(["ask"]))
    run = await submitted(app)
    await until(app, run, "paused")
    assert (await look(app, run, wait=0.1))["status"] == "paused"
    waiting = asyncio.create_task(look(app, run, wait=60))
    await server.run_service.resume(run)
    assert (await waiting)["status"] == "succeeded"


@pytest.mark.parametrize("wait", ["-1", "60.1", "61", "long", "nan", "inf", "1e1", "1_0", "٣", "9" * 400, "%00"])
async def test_waits_that_are_none(server: Serving, wait: str) -> None:
    app = await server.add("tiny.yml", workflow())
    reply = await ask(app, "GET", f"/workflow-runs/{await submitted(app)}?wait={wait}")
    assert (reply.status, reply.body["code"]) == (400, "invalid_param")


async def test_polling_reads_the_journal_once(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await gate.reached.wait()
    await until(app, run, "running")
    reads: list[str] = []
    read = server.store.journal.read

    async def counted(run: str, after: int = 0) -> list[Record]:
        reads.append(run)
        return await read(run, after)

    monkeypatch.setattr(server.store.journal, "read", counted)
    for _ in range(50):
        await look(app, run)
    assert reads == []
    gate.let()
    assert (await look(app, run, wait=60))["status"] == "succeeded"


async def test_an_end_that_the_bus_lost_is_found_in_the_journal(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_watch, "_CHECK_SECONDS", 0.05)
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await gate.reached.wait()
    await until(app, run, "running")
    bus = server.run_service.environment.bus
    publish = bus.publish

    def forgetful(records: Any) -> None:
        publish([record for record in records if not isinstance(record.event, RunEnded)])

    monkeypatch.setattr(bus, "publish", forgetful)
    gate.let()
    assert (await look(app, run, wait=60))["status"] == "succeeded"


async def test_a_wait_goes_on_while_the_database_is_away(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_watch, "_CHECK_SECONDS", 0.01)
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await gate.reached.wait()
    await until(app, run, "running")
    refused = asyncio.Event()

    async def away(*_: Any) -> Any:
        refused.set()
        raise StoreError("disk I/O error")

    with monkeypatch.context() as gone:
        gone.setattr(server.store.journal, "read", away)
        waiting = asyncio.create_task(look(app, run, wait=60))
        await refused.wait()
    gate.let()
    assert (await waiting)["status"] == "succeeded"


async def test_a_gap_in_what_the_bus_tells_is_filled(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    app = await server.add("tiny.yml", workflow(["gate", "boom"]))
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await gate.reached.wait()
    await until(app, run, "running")
    bus = server.run_service.environment.bus
    publish = bus.publish
    monkeypatch.setattr(bus, "publish", lambda records: publish(records[-1:]))
    gate.let()
    body = await look(app, run, wait=60)
    assert (body["status"], body["error_node"]["node_id"]) == ("failed", "boom")


async def test_a_run_that_nobody_asks_for_is_not_watched(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_watch, "_CHECK_SECONDS", 0.01)
    monkeypatch.setattr(run_watch, "_IDLE_SECONDS", 0.02)
    app = await server.add("tiny.yml", workflow(["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    run = await submitted(app)
    await until(app, run, "running")

    def watched() -> bool:
        return any(task.get_name() == f"watch {run}" for task in asyncio.all_tasks())

    assert watched()
    for _ in range(12_000):
        if not watched():
            break
        await asyncio.sleep(0.005)
    assert not watched()
    gate.let()
    assert (await look(app, run, wait=60))["status"] == "succeeded"


async def test_only_so_many_runs_are_watched(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_watch, "_MOST", 3)
    app = await server.add("tiny.yml", workflow(["ask"]))
    runs = [await submitted(app) for _ in range(6)]
    for _ in range(2):
        for run in runs:
            assert (await until(app, run, "paused"))["id"] == run
    names = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("watch ")]
    assert sorted(names) == sorted(f"watch {run}" for run in runs[-3:])
