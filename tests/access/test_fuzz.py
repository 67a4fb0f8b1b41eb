"""Whatever is asked of `/api/v1/keys` is answered as its description says."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings

from headrace.access.keys import Rights
from headrace.api.openapi import document
from headrace.stores.memory import memory_storage
from tests.native.calling import Caller
from tests.native.fuzzing import FuzzRequest, operations, requests_to, wrong
from tests.native.world import api_of, apps_of
from tests.runs.service import ECHO

EXAMPLES = 300


async def test_nothing_that_is_sent_breaks_it():
    store = memory_storage()
    apps = apps_of(store)
    app = (await apps.publish("flow.yml", ECHO)).app
    _, key = await apps.access.create(Rights(), "test")
    api = api_of(apps, store)
    others = [await apps.access.create(Rights(apps=frozenset({app.id})), "test", name="é") for _ in range(30)]
    known = {"key_id": [created.id for created, _ in others]}
    ours = operations(document(api.routes), "/api/v1/keys")
    requests: list[FuzzRequest] = []

    @seed(5)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests_to(ours, known))
    def collect(request: FuzzRequest) -> None:
        requests.append(request)

    collect()
    call, statuses = Caller(api, key), Counter[tuple[str, int]]()
    for request in requests:
        # the example's app is not there; ours is
        body = request.body.replace(b"b2c69214-ecc5-4196-99c4-c8fdf975a694", app.id.encode())
        answer = await call(request.method, request.target, body=body, headers=request.headers)
        statuses[request.operation.description["operationId"], answer.status] += 1
        problem = wrong(request, answer)
        assert problem is None, f"{request}: {problem}"
    assert {name for name, status in statuses if status < 300} == {
        operation.description["operationId"] for operation in ours
    }
    assert (await call("GET", "/api/v1/keys")).status == 200, "and the caller's key is as good as before"
