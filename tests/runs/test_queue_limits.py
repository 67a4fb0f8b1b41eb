"""How many runs may wait for a worker, and what is said to those whose runs may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import RequestError
from headrace.ports import Backlog, Priority, ReadyRun
from headrace.runs.queue_limits import QueueLimits
from headrace.runs.service import RunService
from headrace.stores.sql import SqlStorage
from tests.api.chats import chatflow
from tests.api.serving import serving

from .service import ECHO, publish, run_service, submission_of, working

MESSAGES = [{"role": "user", "content": "hi"}]


class Waiting:
    """A queue with these backlogs."""

    def __init__(self, **backlogs: Backlog) -> None:
        self._backlogs = backlogs

    async def backlogs(self, since: float = 0.0) -> Mapping[str, Backlog]:
        return self._backlogs


async def refused(limits: QueueLimits, workspace: str = "a") -> tuple[int, int] | None:
    """(status, Retry-After) of the refusal."""
    try:
        await limits.check(workspace)
    except RequestError as error:
        return error.status, int(error.headers["Retry-After"])
    return None


@pytest.mark.parametrize(
    ("of_workspace", "of_all", "refusal"),
    [
        (0, 0, None),
        (101, 0, None),
        (100, 0, (429, 2)),  # 10 of 100, at 100 in 20 s
        (50, 0, (429, 11)),
        (1, 0, (429, 20)),
        (0, 111, None),
        (0, 110, (503, 2)),
        (100, 110, (429, 2)),
    ],
)
async def test_runs_are_refused_until_a_tenth_of_the_bound_is_free(
    of_workspace: int, of_all: int, refusal: tuple[int, int] | None
) -> None:
    queue: Any = Waiting(a=Backlog(100, 20.0), b=Backlog(10, 1.0))
    limits = QueueLimits(queue, of_workspace, of_all)
    assert await refused(limits) == refusal
    assert await refused(limits, "c") == ((503, 2) if of_all == 110 else None), "whose runs do not wait"


async def test_a_client_is_not_told_to_wait_for_more_than_a_minute() -> None:
    queue: Any = Waiting(a=Backlog(100, 10_000.0))
    assert await refused(QueueLimits(queue, 100, 0)) == (429, 60)


async def test_counting_takes_at_most_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.runs.queue_limits._MAX_AGE_SECONDS", 0.0)
    now, counts = 100.0, 0

    class Slow:
        async def backlogs(self, since: float = 0.0) -> Mapping[str, Backlog]:
            nonlocal now, counts
            now, counts = now + 2.0, counts + 1
            return {"a": Backlog(100, 20.0)}

    queue: Any = Slow()
    limits = QueueLimits(queue, 100, 0, lambda: now)
    for seconds, expected in ((0.0, 1), (0.0, 1), (17.9, 1), (0.2, 2)):
        now += seconds
        assert await refused(limits) == (429, 2)
        assert counts == expected


async def test_the_rate_is_that_at_which_all_processes_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.runs.queue_limits._MAX_AGE_SECONDS", 0.0)
    monkeypatch.setattr("headrace.runs.queue_limits._RESTS", 0.0)
    stores = [await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db") for _ in range(2)]
    queue, other = (store.queue for store in stores)
    now = 0.0
    limits = QueueLimits(queue, 100, 120, lambda: now)
    numbers = iter(range(10_000))

    async def put(count: int, workspace: str = "a") -> None:
        for _ in range(count):
            await queue.put(ReadyRun(f"{next(numbers):05}", 1, workspace, "app", Priority.API))

    async def after(claimed: int, seconds: float, rounds: int = 15) -> tuple[int, int] | None:
        """The refusal once each `seconds` so many runs have been claimed, and as many added."""
        nonlocal now
        refusal = None
        for _ in range(rounds):
            now += seconds
            await put(len(await queue.claim(claimed // 2)) + len(await other.claim(claimed - claimed // 2)))
            refusal = await refused(limits)
        return refusal

    await put(100)
    assert await refused(limits) == (429, 1), "nothing is known yet but that they came at once"
    assert await after(10, 5.0) == (429, 5), "10 of 100 at 2 a second"
    assert await after(9, 1.0, 60) == (429, 2), "at 9 a second"
    assert await after(0, 5.0) == (429, 60), "at none"
    await put(20, "b")
    assert await refused(limits, "b") == (503, 60)
    now += 11.0
    assert await refused(limits) == (429, 1), "it was not measured for a while, and they have come in the last second"
    await queue.claim(1000)
    now += 1.0
    assert await refused(limits) is None
    for store in stores:
        await store.aclose()


async def limited(tmp_path: Path, of_workspace: int) -> tuple[SqlStorage, RunService]:
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    assert store.queue is not None
    service = run_service(store)
    service.queue_limits = QueueLimits(store.queue, of_workspace, 0)
    return store, service


async def test_what_waits_is_bounded_and_batches_are_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.runs.queue_limits._MAX_AGE_SECONDS", 0.0)
    monkeypatch.setattr("headrace.runs.queue_limits._RESTS", 0.0)
    store, service = await limited(tmp_path, 2)
    release = await publish(service, ECHO)
    runs = [(await service.submit(submission_of(release, q="x"))).run for _ in range(2)]
    with pytest.raises(RequestError, match="2 runs of the workspace are waiting") as refusal:
        await service.submit(submission_of(release, q="x"))
    assert (refusal.value.status, refusal.value.code) == (429, "too_many_requests")
    with pytest.raises(RequestError, match="are waiting"):
        async with service.open(submission_of(release, q="x")):
            pass
    assert (await service.submit(submission_of(release, q="x"), runs[0])).run == runs[0], "it exists"
    await service.submit(replace(submission_of(release, q="x"), source="batch:b"))
    async with working(service):
        for run in runs:
            async for _ in service.follow(run):
                pass
        await service.submit(submission_of(release, q="x"))
    await store.aclose()


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/chat-messages", {"inputs": {}, "query": "hi", "user": "u"}, ["code"]),
        ("/api/v1/workflows/{app}/run", {"inputs": {}, "query": "hi", "user": "u"}, ["code"]),
        (
            "/v1/openai/chat/completions",
            {"model": "chat", "messages": [{"role": "user", "content": "hi"}]},
            ["error", "code"],
        ),
    ],
)
async def test_every_dialect_refuses_in_its_own_envelope(
    tmp_path: Path, path: str, body: object, code: Sequence[str]
) -> None:
    async with serving(tmp_path) as server:
        queue: Any = Waiting(other=Backlog(5, 1.0))
        server.run_service.queue_limits = QueueLimits(queue, 0, 5)
        app = await server.add("c.yml", chatflow("x", []))
        headers = {"Authorization": f"Bearer {server.secret_key(app.release)}"}
        url = server.url + path.format(app=app.release.app.id)
        async with server.session.post(url, json=body, headers=headers) as answer:
            value = await answer.json()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1"), value
    for name in code:
        value = value[name]
    assert value == "service_unavailable"
