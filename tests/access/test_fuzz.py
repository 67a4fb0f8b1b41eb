"""Whatever is asked of `/api/v1/keys` is answered as its description says."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings

from headrace.access.keys import Rights
from headrace.api.openapi import document
from headrace.stores.memory import memory_storage
from tests.native.calling import Caller
from tests.native.fuzzing import Asked, asked, operations, wrong
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
    known = {"key_id": [made.id for made, _ in others]}
    ours = operations(document(api.routes), "/api/v1/keys")
    requests: list[Asked] = []

    @seed(5)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(asked(ours, known))
    def collect(each: Asked) -> None:
        requests.append(each)

    collect()
    call, statuses = Caller(api, key), Counter[tuple[str, int]]()
    for each in requests:
        # the example's app is not there; ours is
        body = each.body.replace(b"b2c69214-ecc5-4196-99c4-c8fdf975a694", app.id.encode())
        answer = await call(each.method, each.target, body=body, headers=each.headers)
        statuses[each.operation.told["operationId"], answer.status] += 1
        problem = wrong(each, answer)
        assert problem is None, f"{each}: {problem}"
    assert {name for name, status in statuses if status < 300} == {each.told["operationId"] for each in ours}
    assert (await call("GET", "/api/v1/keys")).status == 200, "and the caller's key is as good as before"
