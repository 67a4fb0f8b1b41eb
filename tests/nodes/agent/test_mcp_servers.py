"""Agents that call tools of MCP servers: those that the operator has configured, and those that a file names."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml
from mcp_server_time.server import create_server

from headrace.adapters.models import ModelClient
from headrace.adapters.tools import ToolRegistry
from headrace.kernel.events import NodeSucceeded
from headrace.ports.services import McpEndpoint
from headrace.values import Value
from tests.models.server import ModelServer
from tests.nodes.agent.world import agent_file, agent_world, by_round, calls, constant, drive, loaded, says, tool
from tests.tools.mcp_server import new_server
from tests.tools.mcp_world import connected, listening

ROME = ("weather", {"city": "Rome"})
SERVERS = {"tickets": {"type": "sse", "url": "https://known.example/sse", "headers": {"Authorization": "Bearer k"}}}
TICKETS = ("tickets", McpEndpoint("https://known.example/sse", "sse", (("Authorization", "Bearer k"),)))
KNOWN = ("known.example", McpEndpoint("https://known.example/mcp"))
RENDERED = ("a", McpEndpoint("Weather in Rome?", "streamable_http"))


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"mcp_server": " https://known.example/mcp"}, [KNOWN]),
        ({"mcp_servers_config": json.dumps(SERVERS)}, [TICKETS]),
        ({"mcp_servers_config": json.dumps({"mcpServers": SERVERS})}, [TICKETS]),
        ({"mcp_servers_config": {"mcpServers": SERVERS}}, [TICKETS]),
        ({"mcp_servers_config": '{"a": {"url": "{{#sys.query#}}", "transport": "streamable_http"}}'}, [RENDERED]),
        ({"mcp_servers_config": '{"a": "https://known.example/mcp"}'}, [("a", KNOWN[1])]),
        ({"mcp_servers_config": '{"known": {"command": "rm"}}'}, [("known", None)]),
        ({"mcp_server": "", "mcp_servers_config": " "}, []),
    ],
)
async def test_the_tools_of_mcp_servers_are_offered(
    server: ModelServer, client: ModelClient, parameters: dict[str, Value], named: list[tuple[str, McpEndpoint | None]]
):
    data = {"agent_strategy_provider_name": "hjlarry/agent/mcp_agent"}
    constants: dict[str, Any] = {name: constant(value) for name, value in parameters.items()}
    flow = loaded(agent_file(data=data, **constants))
    server.answer(by_round(calls(ROME), says("Done.")) if named else by_round(says("Done.")))
    ran = await drive(flow, client)
    assert [(reference.provider_name, reference.endpoint) for reference in ran.shelf.references] == named
    assert len(ran.shelf.calls) == len(named)
    assert ran.outputs["text"].endswith("Done.")


async def test_an_agent_calls_servers_over_stdio_and_http(server: ModelServer, client: ModelClient):
    clock = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}  # a server that is not ours
    to_tokyo = {"time": "12:00", "source_timezone": "UTC", "target_timezone": "Asia/Tokyo"}
    server.answer(by_round(calls(("convert_time", to_tokyo), ("add", {"a": 1, "b": 2})), says("Done.")))
    async with (
        listening(new_server().streamable_http_app()) as url,
        connected(["127.0.0.1"], clock=clock) as tools,
    ):
        ours = tool("convert_time", type="mcp", provider_name="clock")
        data = {"agent_strategy_provider_name": "hjlarry/agent/mcp_agent"}
        flow = loaded(agent_file(ours, data=data, mcp_server=constant(f"{url}/mcp")))
        ran = await drive(flow, client, tools=ToolRegistry({"mcp": tools}))
    assert ran.outputs["text"].strip() == "Done."
    functions = {function["function"]["name"] for function in server.requests[0].body["tools"]}
    assert {"convert_time", "add", "search"} <= functions
    tokyo, total = (message["content"] for message in server.requests[1].body["messages"] if message["role"] == "tool")
    assert "T21:00:00+09:00" in tokyo
    assert '"total": 3' in total


async def test_an_mcp_server_that_is_missing_is_named(client: ModelClient):
    servers = constant('{"a": {"command": "x"}}')
    node = loaded(agent_file(mcp_servers_config=servers)).nodes["agent"]
    assert "the server a is needed" in [*node.missing_requirements(agent_world(client).resources)]


@pytest.mark.parametrize("config", ["{{#env.servers#}}", '{"a": {"url": "{{#env.url#}}"}}'])
async def test_an_mcp_server_that_variables_name_is_not_missing(client: ModelClient, config: str):
    node = loaded(agent_file(mcp_servers_config=constant(config))).nodes["agent"]
    assert not [message for message in node.missing_requirements(agent_world(client).resources) if "server" in message]


@pytest.mark.parametrize("config", ["{", "[]"])
async def test_a_malformed_list_of_servers_fails_the_node(client: ModelClient, config: str):
    ran = await drive(loaded(agent_file(mcp_servers_config=constant(config))), client)
    assert ran.failure.error.startswith("mcp_servers_config is not")


@asynccontextmanager
async def published(transport: str) -> AsyncGenerator[dict[str, Any]]:
    """The configuration of a server that is not ours, from its own package."""
    if transport == "stdio":
        yield {"command": sys.executable, "args": ["-m", "mcp_server_time"]}
        return
    theirs = create_server("UTC")
    app, path = (theirs.sse_app(), "sse") if transport == "sse" else (theirs.streamable_http_app(), "mcp")
    async with listening(app) as url:
        yield {"url": f"{url}/{path}"}


@pytest.mark.parametrize("transport", ["stdio", "http", "sse"])
async def test_a_published_server_is_called_by_a_tool_node_and_by_an_agent(
    server: ModelServer, client: ModelClient, transport: str
):
    arguments = {"time": "12:00", "source_timezone": "UTC", "target_timezone": "Asia/Tokyo"}
    file = yaml.safe_load(agent_file(tool("convert_time", type="mcp", provider_name="clock")))
    node = {
        "type": "tool",
        "title": "Tool",
        "provider_type": "mcp",
        "provider_id": "clock",
        "provider_name": "Clock",
        "tool_name": "convert_time",
        "tool_parameters": {name: constant(value) for name, value in arguments.items()},
        "tool_configurations": {},
    }
    graph = file["workflow"]["graph"]
    graph["nodes"].append({"id": "tool", "data": node})
    graph["edges"][0]["target"] = "tool"
    graph["edges"].append({"source": "tool", "target": "agent", "sourceHandle": "source"})
    server.answer(by_round(calls(("convert_time", arguments)), says("Done.")))
    async with published(transport) as config, connected(clock=config) as tools:
        ran = await drive(loaded(yaml.safe_dump(file)), client, tools=ToolRegistry({"mcp": tools}))
    outputs = next(
        record.event.outputs
        for record in ran.records
        if isinstance(record.event, NodeSucceeded) and record.event.path == "tool"
    )
    assert outputs["target"]["datetime"].endswith("T21:00:00+09:00")
    assert ran.outputs["text"].strip() == "Done."
    assert "T21:00:00+09:00" in server.requests[1].body["messages"][-1]["content"]
