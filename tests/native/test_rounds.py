"""Runs with containers, as pollers see them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.ports import Callback
from headrace.webhooks.payload import message
from tests.api.serving import Client, Serving, serving
from tests.engine.nests import REGISTRY, adds, iteration, loop, node, source, variable
from tests.native.asynchronous import ask, look, submitted

ITEMS = ["start", "items", "list"]


async def nodes_of(app: Client, run: str) -> list[Any]:
    reply = await ask(app, "GET", f"/workflow-runs/{run}/node-executions")
    assert reply.status == 200, reply.body
    return reply.body["data"]


async def finished(server: Serving, file: str, **inputs: Any) -> tuple[Client, Any]:
    app = await server.add("nest.yml", file)
    return app, await look(app, await submitted(app, {"items": inputs}), wait=60)


async def test_what_each_node_did_in_each_round(tmp_path: Path) -> None:
    file = source(
        [
            iteration("it", ITEMS, ["lo", "n"]),
            loop("lo", 2, inside="it", loop_variables=[variable("n", 0)]),
            node("in", "slow-echo", "lo", reads=[["it", "item"], ["lo", "n"]]),
            adds("add", ["lo", "n"], 1, "lo"),
        ],
        "start>it it-start>lo lo-start>in in>add it>end",
        {"out": ["it", "output"]},
    )
    async with serving(tmp_path, registry=REGISTRY) as server:
        app, body = await finished(server, file, list=["a", "b"])
        nodes = await nodes_of(app, body["id"])
    assert [item["index"] for item in nodes] == list(range(1, len(nodes) + 1))
    assert len({item["id"] for item in nodes}) == len(nodes)
    assert {item["status"] for item in nodes} == {"succeeded"}
    inner = [item for item in nodes if item["node_id"] == "in"]
    assert [(item["iteration_id"], item["iteration_index"]) for item in inner] == [
        ("it", 0),
        ("it", 0),
        ("it", 1),
        ("it", 1),
    ]
    assert [(item["loop_id"], item["loop_index"]) for item in inner] == [("lo", 0), ("lo", 1)] * 2
    assert [item["outputs"]["r"] for item in inner] == ["in:a:0", "in:a:1", "in:b:0", "in:b:1"]
    assert {item["predecessor_node_id"] for item in nodes if item["node_id"] == "add"} == {"in"}
    (outer,) = [item for item in nodes if item["node_id"] == "it"]
    assert (outer["iteration_id"], outer["predecessor_node_id"], outer["outputs"]) == (
        None,
        "start",
        {"output": [2, 2]},
    )


async def test_a_container_that_has_nothing_to_begin_with(tmp_path: Path) -> None:
    file = source([iteration("it", ITEMS, ["in", "r"]), node("in", "echo", "it")], "start>it it-start>in it>end", {})
    async with serving(tmp_path, registry=REGISTRY) as server:
        app, body = await finished(server, file)
        *_, failed = await nodes_of(app, body["id"])
    assert (body["status"], body["error_node"]["node_id"]) == ("failed", "it")
    assert (failed["node_id"], failed["status"], failed["elapsed_time"]) == ("it", "failed", 0)
    assert failed["error"] == body["error"]


@pytest.mark.parametrize("fails", [False, True])
async def test_what_was_paid_inside_is_counted_once(tmp_path: Path, fails: bool) -> None:
    more = {"fails_on": [3]} if fails else {}
    inside = node("in", "slow-echo", "it", reads=[["it", "item"]], tokens=7, **more)
    file = source([iteration("it", ITEMS, ["in", "r"]), inside], "start>it it-start>in it>end", {})
    async with serving(tmp_path, registry=REGISTRY) as server:
        app, body = await finished(server, file, list=[1, 2, 3])
        rounds = 2 if fails else 3
        assert (body["total_tokens"], body["usage"]["total_tokens"]) == (7 * rounds, 7 * rounds)
        assert body["usage"]["prompt_tokens"] == 7 * rounds
        if fails:
            assert (body["error_node"]["node_id"], body["exceptions_count"]) == ("it", 1)
        view = await server.run_service.get(body["id"])
        assert view is not None
        callback = Callback("c", app.release.app.id, body["id"], "http://h/", "run.succeeded", 10**6, 0.0)
        assert json.loads(message(callback, view))["data"]["usage"] == body["usage"]
