"""What `include` adds to the executions of nodes: the log of an agent, the messages of a model, the rounds of a
container."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.nodes import registry
from tests.api.chats import say
from tests.api.serving import Client, Serving, serving
from tests.engine.nests import REGISTRY, iteration, node, source
from tests.models.conftest import client, server
from tests.models.server import ModelServer
from tests.native.asynchronous import ask, look, submitted
from tests.nodes.agent.world import ToolShelf, agent_file, by_round, calls, says, tool

__all__ = ["client", "server"]

ROME = ("weather", {"city": "Rome"})


async def _executions(app: Client, run: str, **query: Any) -> list[Any]:
    reply = await ask(app, "GET", f"/workflow-runs/{run}/node-executions", params=query)
    assert reply.status == 200, reply.body
    return reply.body["data"]


@pytest.fixture
async def headrace(tmp_path: Path, client: ModelClient) -> AsyncGenerator[Serving]:
    async with serving(tmp_path, models=client, tools=ToolShelf(), registry=registry(())) as running:
        yield running


async def test_the_log_of_an_agent(headrace: Serving, server: ModelServer):
    server.answer(by_round(calls(ROME, text="Let me look."), says("It is 20 C.")))
    app = await headrace.add("a.yml", agent_file(tool("weather")))
    _, answer = await say(app, "Weather?")
    executions = await _executions(app, answer["message_id"], include="agent_log,messages")
    logs = {execution["node_type"]: execution["agent_log"] for execution in executions}
    assert logs["start"] == logs["answer"] == []
    first, thought, call, second, answered = logs["agent"]
    labels = [entry["label"] for entry in logs["agent"]]
    assert labels == ["ROUND 1", "m Thought", "CALL weather", "ROUND 2", "m Thought"]
    assert {entry["status"] for entry in logs["agent"]} == {"success"}
    assert thought["parent_id"] == call["parent_id"] == first["id"]
    assert answered["parent_id"] == second["id"]
    assert call["data"]["output"]["tool_response"] == "Rome: 20 C"
    assert all(execution["messages"] == [] for execution in executions)
    assert all("agent_log" not in execution for execution in await _executions(app, answer["message_id"]))


async def test_the_rounds_of_a_container(tmp_path: Path):
    inside = node("in", "slow-echo", "it", reads=[["it", "item"]], fails_on=["b"])
    file = source(
        [iteration("it", ["start", "items", "list"], ["in", "r"], error_handle_mode="continue-on-error"), inside],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )
    async with serving(tmp_path, registry=REGISTRY) as headrace:
        app = await headrace.add("nest.yml", file)
        run = await submitted(app, {"items": {"list": ["a", "b", "c"]}})
        assert (await look(app, run, wait=60))["finished_at"] is not None
        top = await _executions(app, run, top="true", include="rounds")
        [second] = await _executions(app, run, parent="it", round=1)
        inner = await _executions(app, run, parent="it", include="rounds")
        refused = await ask(app, "GET", f"/workflow-runs/{run}/node-executions?round=1")
    rounds = {execution["path"]: execution["rounds"] for execution in top}
    assert [path for path in rounds if path != "it"] == ["start", "end"]
    assert rounds["start"] is rounds["end"] is None
    assert (rounds["it"]["count"], rounds["it"]["failed"]) == (3, [1])
    assert len(rounds["it"]["durations"]) == 3
    assert (second["node_id"], second["iteration_index"], second["status"]) == ("in", 1, "failed")
    assert [execution["path"] for execution in inner if execution["node_id"] == "in"] == [
        "it[0]/in",
        "it[1]/in",
        "it[2]/in",
    ]
    assert refused.status == 400
