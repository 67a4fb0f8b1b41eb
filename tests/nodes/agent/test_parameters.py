"""Who fills the parameters of an agent's tools, and what the model is sent back of its own calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.ports.services import ToolParameter, ToolSpec
from tests.models.server import ModelServer
from tests.nodes.agent.world import TOOLS, agent_file, by_round, calls, constant, drive, loaded, says, tool

WEATHER = tool("weather")


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [("", "{}"), ('{"city": ', "{}"), ("[1]", "{}"), ('{"city":"Zürich"}', '{"city": "Zürich"}')],
)
async def test_arguments_are_sent_back_as_an_object(
    server: ModelServer, client: ModelClient, arguments: str, sent: str
):
    server.answer(by_round(calls(("weather", arguments)), says("Done.")))
    await drive(loaded(agent_file(WEATHER)), client)
    [call] = server.requests[1].body["messages"][2]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": sent}


@pytest.mark.parametrize(
    ("parameter", "city"),
    [
        ({"auto": 0, "value": constant("Oslo")}, "Oslo"),
        ({"auto": 0, "value": "Oslo"}, "Oslo"),
        ("Oslo", "Oslo"),
        ({"auto": 0, "value": constant("")}, ""),
        ({"auto": 0}, ""),
        ({"auto": 0, "value": None}, "Rome"),  # as in Dify, the parameter is the model's
        ({"auto": 1, "value": constant("Oslo")}, "Rome"),
        ({"auto": 1, "value": None}, "Rome"),
        ({}, "Rome"),
    ],
)
async def test_who_fills_a_parameter(server: ModelServer, client: ModelClient, parameter: Any, city: str):
    server.answer(by_round(calls(("weather", {"city": "Rome"})), says("Done.")))
    ran = await drive(loaded(agent_file(tool("weather", parameters={"city": parameter}))), client)
    assert ran.shelf.calls[0][0]["city"] == city
    properties = server.requests[0].body["tools"][0]["function"]["parameters"]["properties"]
    assert ("city" in properties) == (city == "Rome")


async def test_a_variable_that_is_missing_is_not_the_models_to_fill(server: ModelServer, client: ModelClient):
    by_hand = {"city": {"auto": 0, "value": {"type": "variable", "value": ["nowhere", "city"]}}}
    ran = await drive(loaded(agent_file(tool("weather", parameters=by_hand))), client)
    assert ran.failure.error == "Variable ['nowhere', 'city'] does not exist"
    assert server.requests == []


@pytest.mark.parametrize(
    ("allowed", "offered"),
    [
        ([], ["weather", "draw"]),
        ("", ["weather", "draw"]),
        (None, ["weather", "draw"]),
        (["draw"], ["draw"]),
        ([" draw ", 5], ["draw"]),
        ("draw", ["draw"]),
        ('["draw", "weather"]', ["weather", "draw"]),
        ("[" * 100_000, []),
        (["none of them"], []),
    ],
)
async def test_tools_that_are_allowed(server: ModelServer, client: ModelClient, allowed: Any, offered: list[str]):
    server.answer(by_round(says("Hi.")))
    await drive(loaded(agent_file(WEATHER, tool("draw"), allowed_tools=constant(allowed))), client)
    tools = server.requests[0].body.get("tools", [])
    assert [offer["function"]["name"] for offer in tools] == offered


@pytest.mark.parametrize(
    ("limit", "rounds"),
    [(0, 1), (-5, 1), ("0", 1), ("2", 2), (2.9, 2), ("2.9", 2), (True, 1), (None, 3), ("", 3), (10**15, 500)],
)
async def test_the_limit_of_rounds(server: ModelServer, client: ModelClient, limit: Any, rounds: int):
    if rounds == 500:
        server.answer(by_round(says("Hi.")))
        ran = await drive(loaded(agent_file(WEATHER, maximum_iterations=constant(limit))), client)
        assert ran.result.inputs["maximum_iterations"] == limit
        return
    server.answer(by_round(calls(("weather", {"city": "Rome"}))))
    await drive(loaded(agent_file(WEATHER, maximum_iterations=constant(limit))), client)
    assert len(server.requests) == rounds


@pytest.mark.parametrize("limit", ["many", "inf", "nan", [], {"a": 1}, json.dumps({"a": 1})])
async def test_a_limit_that_is_not_a_number_is_named(client: ModelClient, limit: Any):
    ran = await drive(loaded(agent_file(WEATHER, maximum_iterations=constant(limit))), client)
    assert ran.failure.error.startswith("maximum_iterations is ")


@pytest.mark.parametrize("kind", ["file", "files", "system-files"])
async def test_a_tool_that_needs_a_file_cannot_be_an_agents(
    monkeypatch: pytest.MonkeyPatch, server: ModelServer, client: ModelClient, kind: Any
):
    spec = ToolSpec("scan", parameters=[ToolParameter("page", kind, required=True)])
    monkeypatch.setitem(TOOLS, "scan", (lambda **_: [], spec))
    ran = await drive(loaded(agent_file(tool("scan"))), client)
    assert ran.failure.error == "The tool scan needs a file (page), which an agent cannot give."
    assert server.requests == []
    spec = ToolSpec("scan", parameters=[ToolParameter("page", kind)])
    monkeypatch.setitem(TOOLS, "scan", (lambda **_: [], spec))
    server.answer(by_round(says("Done.")))
    await drive(loaded(agent_file(tool("scan"))), client)
    assert server.requests[0].body["tools"][0]["function"]["parameters"]["properties"] == {}
