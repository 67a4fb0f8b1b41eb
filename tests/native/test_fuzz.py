"""What nobody means to send: never a 500, always the envelope, and no status that the description does not tell of."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from headrace.adapters.files import limit_for
from headrace.api.app import ApiOptions, create_app
from headrace.api.native import NativeServices
from headrace.api.openapi import document
from headrace.main import service
from headrace.settings import Settings
from tests.cli.flows import field, flow
from tests.native.calling import Caller
from tests.native.fuzzing import FuzzRequest, operations, requests_to, wrong

EXAMPLES = 1_000
PATIENCE = 0.3  # seconds after which whoever follows a run hangs up


class Target:
    """A whole service with an app, some runs of it, and a caller with the app's key."""

    def __init__(self, app: Any, key: str, known: dict[str, list[str]]) -> None:
        self.call = Caller(app, key)
        described = operations(document(app.routes), "/api/v1/")
        # one that does not end by itself, and one that ends the app of all others
        left_out = ("followRuns", "removeApp")
        self.operations = [item for item in described if item.description["operationId"] not in left_out]
        self.known = known
        self.seen: Counter[tuple[str, str, int]] = Counter()

    async def ask(self, request: FuzzRequest) -> None:
        answer = await self.call(
            request.method, request.target, body=request.body, headers=request.headers, leave_after=PATIENCE
        )
        self.seen[request.operation.method, request.operation.path, answer.status] += 1
        problem = wrong(request, answer)
        assert problem is None, f"{request}: {problem}"


@pytest.fixture
async def target(tmp_path: Path) -> AsyncGenerator[Target]:
    file = flow(tmp_path / "echo.yml", variables=[field("query")])
    other = flow(tmp_path / "other.yml")
    async with service(Settings(data=tmp_path / "data"), {}, memory=True) as running:
        release = await running.publish(file)
        key = await running.apps.working_key(release.app)
        foreign = await running.publish(other)
        options = ApiOptions(limit_for=limit_for, ping_seconds=0.05)
        services = NativeServices(
            running.storage.idempotency, running.webhook_sender, running.batch_runner, running.subscriptions
        )
        app = create_app(running.apps, running.run_service, running.files, options, services)
        call = Caller(app, key)
        body = {"inputs": {"query": "é"}, "user": "u", "callback_url": "http://127.0.0.1:1/hook"}
        runs = [(await call("POST", f"/api/v1/workflows/{release.app.id}/run", json=body)).json for _ in range(2)]
        ran = f"/api/v1/workflow-runs/{runs[0]['workflow_run_id']}"
        assert (await call("GET", f"{ran}?wait=60")).json["status"] == "succeeded"
        callbacks = (await call("GET", f"{ran}/callbacks")).json["data"]
        begun = await call(
            "POST",
            f"/api/v1/workflows/{release.app.id}/batch?user=u",
            body=b'{"query": "a"}\n{"query": 7}\n',
            headers={"Content-Type": "application/jsonl"},
        )
        known = {
            "batch_id": [begun.json["batch_id"]],
            "app_id": [release.app.id, release.app.id, foreign.app.id],
            "workflow_id": [release.app.id, release.version.id, foreign.app.id],
            "version_id": [release.version.id, release.version.id, foreign.version.id],
            "from": [release.version.id],
            "workflow_run_id": [run["workflow_run_id"] for run in runs],
            "callback_id": [callback["id"] for callback in callbacks],
        }
        yield Target(app, key, known)


async def test_nothing_that_is_sent_breaks_it(target: Target):
    requests: list[FuzzRequest] = []

    @seed(3)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests_to(target.operations, target.known))
    def collect(request: FuzzRequest) -> None:
        requests.append(request)

    collect()
    gate = asyncio.Semaphore(20)

    async def ask(request: FuzzRequest) -> None:
        async with gate:
            await target.ask(request)

    await asyncio.gather(*(ask(request) for request in requests))
    reached = {(method, path) for method, path, status in target.seen if status < 400}
    assert len(requests) >= EXAMPLES
    assert len(reached) > len(target.operations) / 2, "the requests do not get far enough to prove anything"


async def test_a_wrong_answer_would_be_found(target: Target):
    """The check itself: an operation that answers what it does not tell of."""
    operation = next(item for item in target.operations if item.path == "/api/v1/workflow-runs")
    poor = type(operation)(operation.method, operation.path, {**operation.description, "responses": {"418": {}}})
    with pytest.raises(AssertionError, match="is not documented"):
        await target.ask(FuzzRequest(poor, "GET", poor.path, {}, b"", plain=True))
