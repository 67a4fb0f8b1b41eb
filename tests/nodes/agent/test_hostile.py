"""Agents with models and tools that do not behave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.engine import Driver
from headrace.kernel.events import NodeFailed, RunEnded, StepEnded
from headrace.ports.services import BlobMessage, TextMessage, ToolContext, ToolMessage, ToolSpec
from headrace.values import Value
from tests.models.server import ModelServer, ReceivedRequest, piece, usage
from tests.nodes.agent.world import (
    TOOLS,
    FunctionTool,
    ToolShelf,
    agent_file,
    agent_world,
    by_round,
    calls,
    constant,
    drive,
    loaded,
    question,
    says,
    tool,
)

WEATHER = tool("weather")
ROME = ("weather", {"city": "Rome"})


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The tools of the shelf, to add to."""
    added = dict(TOOLS)
    monkeypatch.setattr("tests.nodes.agent.world.TOOLS", added)
    return added


def said(server: ModelServer, request: int = 1) -> list[str]:
    return [message["content"] for message in server.requests[request].body["messages"] if message["role"] == "tool"]


# ------------------------------------------------------------------------------------------------------------- models


def made(**call: Any) -> dict[str, Any]:
    return {"index": 0, "id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}, **call}


@pytest.mark.parametrize(
    "call",
    [
        made(id=None),
        made(id=""),
        made(function={"name": None, "arguments": "{}"}),
        made(function={"name": "weather", "arguments": None}),
        made(function={"name": "\ud83d\ude00" * 100, "arguments": "{}"}),
        made(function={"name": "x" * 10_000, "arguments": "[" * 10_000}),
        made(function={"name": "weather", "arguments": json.dumps({"city": "x" * 200_000})}),
        made(function={"name": "weather", "arguments": '{"city": NaN, "city": 1e999, "\\u0000": "\\ud800"}'}),
        made(function=None),
        made(type="custom"),
        {"index": "first"},
        {},
    ],
)
async def test_odd_calls_do_not_end_the_agent(server: ModelServer, client: ModelClient, call: dict[str, Any]):
    server.answer(by_round([piece(tool_calls=[call]), piece(finish="tool_calls"), usage(1, 1)], says("Done.")))
    ran = await drive(loaded(agent_file(WEATHER)), client)
    ended = ran.records[-1].event
    assert isinstance(ended, RunEnded)
    if ended.status == "failed":
        assert ran.failure.kind.startswith(("Invoke", "Agent")), ran.failure.error
    else:
        assert ended.outputs["answer"].strip() in ("Done.", "")


@pytest.mark.parametrize("body", [b"data: {\n\n", b"data: []\n\n", b"data: null\n\n", b"<html>", b"", b"\xff\xfe"])
async def test_an_answer_that_is_not_one_fails_the_node(server: ModelServer, client: ModelClient, body: bytes):
    async def garbage(request: ReceivedRequest) -> None:
        await request.head(**{"Content-Type": "text/event-stream"})
        await request.chunk(body)
        await request.send(b"0\r\n\r\n")

    server.answer(garbage)
    ran = await drive(loaded(agent_file(WEATHER)), client)
    assert ran.failure.kind.startswith("Invoke"), ran.failure
    assert ran.failure.inputs["query"] == "Weather in Rome?"


async def test_calls_with_the_same_id_are_told_apart(server: ModelServer, client: ModelClient):
    twice = [made(), {**made(), "index": 1, "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
    server.answer(by_round([piece(tool_calls=twice), piece(finish="tool_calls"), usage(1, 1)], says("Done.")))
    await drive(loaded(agent_file(WEATHER)), client)
    called, *results = server.requests[1].body["messages"][2:]
    ids = [call["id"] for call in called["tool_calls"]]
    assert len(set(ids)) == 2
    assert [result["tool_call_id"] for result in results] == ids
    assert said(server) == [": 20 C", "Oslo: 20 C"]


async def test_two_hundred_calls_at_once(server: ModelServer, client: ModelClient):
    cities = [f"city {number}" for number in range(200)]
    server.answer(by_round(calls(*(("weather", {"city": city}) for city in cities)), says("Done.")))
    ran = await drive(loaded(agent_file(WEATHER)), client)
    assert said(server) == [f"{city}: 20 C" for city in cities]
    assert len({context.key for _, context in ran.shelf.calls}) == 200
    assert len(ran.outputs["json"]) == 200 + 4 + 1


# -------------------------------------------------------------------------------------------------------------- tools


async def test_a_tool_that_answers_too_much_is_an_error_for_the_model(
    server: ModelServer, client: ModelClient, tools: dict[str, Any]
):
    text = [TextMessage("x" * 1_000_000)] * 100
    blob = [BlobMessage(bytes(100_000_000), "application/zip")]
    tools["text"] = (lambda: text, ToolSpec("text", "Text", "Says 100 MB."))
    tools["blob"] = (lambda: blob, ToolSpec("blob", "Blob", "Sends 100 MB."))
    server.answer(by_round(calls(("text", {}), ("blob", {})), says("Done.")))
    ran = await drive(loaded(agent_file(tool("text"), tool("blob"))), client)
    assert said(server) == [
        "tool invoke error: the answer is longer than 1000000 characters",
        "tool invoke error: The tool's files are larger than 31457280 bytes.",
    ]
    assert ran.outputs["text"] == "\nDone."


async def test_a_tool_that_never_ends_is_cancelled_with_the_run(server: ModelServer, client: ModelClient):
    class Endless(FunctionTool):
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncIterator[ToolMessage]:
            yield TextMessage("begun")
            self.started.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()

    class Shelf(ToolShelf):
        async def find(self, reference: Any) -> Any:
            return Endless(TOOLS["weather"][1], TOOLS["weather"][0], self.calls)

    server.answer(by_round(calls(ROME, ROME), says("Done.")))
    flow = loaded(agent_file(WEATHER))
    where = agent_world(client, Shelf())
    await where.journal.append([question()])
    driver = Driver("run", flow, where)
    driving = asyncio.create_task(driver.drive())
    async with asyncio.timeout(60):
        await Endless.started.wait()
        driver.stop("me")
        state = await driving
    assert Endless.cancelled.is_set()
    assert state.ended is not None
    assert state.ended.status == "stopped"
    ended = [r.event.name for r in await where.journal.read("run") if isinstance(r.event, StepEnded)]
    assert ended == ["round[1]/model"]


async def test_names_that_no_function_may_have(server: ModelServer, client: ModelClient, tools: dict[str, Any]):
    names = ["天气", "météo", "天气", "a b", "x" * 100, "x" * 100, "weather", "a_weather"]
    for name in set(names) - {"weather"}:
        tools[name] = (tools["weather"][0], ToolSpec(name, name, f"Is {name[:9]}."))
    server.answer(by_round(says("Hi.")))
    await drive(loaded(agent_file(*map(tool, names), tool("weather"))), client)
    offered = [offer["function"]["name"] for offer in server.requests[0].body["tools"]]
    assert len(set(offered)) == len(names) + 1
    assert all(name.isascii() and 0 < len(name) <= 64 and " " not in name for name in offered)
    for place, name in enumerate(offered):
        server.requests.clear()
        server.answer(by_round(calls((name, {"city": "Rome"})), says("Done.")))
        await drive(loaded(agent_file(*map(tool, names), tool("weather"))), client)
        assert said(server) == ["Rome: 20 C"], place


# ------------------------------------------------------------------------------------------------- around the agent


async def fails(request: ReceivedRequest) -> None:
    await request.refuse(400, {"error": {"message": "no such model"}})


async def test_default_values_stand_for_an_agent_that_fails(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(ROME, text="Let me look.")), fails)
    defaults = [{"key": "text", "type": "string", "value": "Nobody is here."}]
    flow = loaded(agent_file(WEATHER, data={"error_strategy": "default-value", "default_value": defaults}))
    ran = await drive(flow, client)
    ended = ran.records[-1].event
    assert isinstance(ended, RunEnded)
    assert ended.status == "partial-succeeded"
    assert ended.outputs["answer"].endswith("Nobody is here.")
    failed = next(record.event for record in ran.records if isinstance(record.event, NodeFailed))
    assert failed.outputs["error_type"].startswith("Invoke")


async def test_conversation_variables_are_read(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(("weather", {})), says("Done.")))
    workflow = {"conversation_variables": [{"id": "1", "name": "city", "value_type": "string", "value": "Bern"}]}
    by_hand = {"city": {"auto": 0, "value": {"type": "variable", "value": ["conversation", "city"]}}}
    flow = loaded(
        agent_file(
            tool("weather", parameters=by_hand), workflow=workflow, instruction=constant("In {{#conversation.city#}}.")
        )
    )
    where = agent_world(client, shelf := ToolShelf())
    await where.journal.append([question(conversation_id="c1")])
    await Driver("run", flow, where, {"city": "Bern"}).drive()
    assert server.requests[0].body["messages"][0]["content"] == "In Bern."
    assert shelf.calls[0][0]["city"] == "Bern"


@pytest.mark.parametrize(
    "tools",
    [[None], ["weather"], [{}], [{"tool_name": None}], [{"tool_name": "weather", "settings": []}], {"a": 1}, 5],
)
async def test_tools_that_are_malformed_are_named(client: ModelClient, tools: Any):
    ran = await drive(loaded(agent_file(data={"agent_parameters": {**_model(), "tools": constant(tools)}})), client)
    assert ran.failure.kind == "AgentNodeError"
    assert "tool" in ran.failure.error.lower()


def _model() -> Mapping[str, Value]:
    return {"model": constant({"provider": "openai", "model": "m"})}
