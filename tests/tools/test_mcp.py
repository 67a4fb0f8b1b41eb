"""Tools of MCP servers: real ones over each transport, and others that die, hang, forget, or send rubbish."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp.types import CallToolResult, TextContent, Tool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.adapters.egress import Egress
from headrace.adapters.tools.mcp import McpTools, connection, read_servers
from headrace.adapters.tools.mcp.configuration import server_config
from headrace.adapters.tools.mcp.messages import messages, tool_spec
from headrace.errors import HeadraceError, NodeError
from headrace.ports.services import (
    BlobMessage,
    JsonMessage,
    LinkMessage,
    McpEndpoint,
    TextMessage,
    ToolMessage,
    ToolReference,
    ToolSpec,
    VariableMessage,
)
from tests.tools.mcp_server import new_server
from tests.tools.mcp_world import PLAIN, STDIO, Forgetful, answer, call, connected, listening, program


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stdio() -> AsyncIterator[McpTools]:
    """Tools of a process that answers them all: to start one takes a second of CPU time."""
    async with connected(s=STDIO) as tools:
        yield tools


# ------------------------------------------------------------------------------------------------------- real servers


async def test_a_process_is_started_on_first_use_and_kept() -> None:
    async with connected(s=STDIO, unused={"command": "/nothing"}) as tools:
        assert await call(tools, "add", a=2, b=3) == [
            JsonMessage({"total": 5, "terms": [2, 3]}),
            VariableMessage("total", 5),
            VariableMessage("terms", [2, 3]),
        ]
        pid = int(await answer(tools, "process"))
        assert int(await answer(tools, "process")) == pid
        assert pid != os.getpid()
        assert await answer(tools, "environment", name="GREETING") == "hello"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_process_gets_no_environment_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not for servers")
    async with connected(s=PLAIN) as tools:
        assert await answer(tools, "environment", name="OPENAI_API_KEY") == "not set"


@pytest.mark.parametrize("type_", ["http", "sse"])
async def test_a_server_elsewhere(type_: str) -> None:
    official = new_server()
    app = official.streamable_http_app() if type_ == "http" else official.sse_app()
    seen: list[str | None] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(value.decode() for name, value in scope.get("headers", ()) if name == b"authorization")
        await app(scope, receive, send)

    headers = {"Authorization": "Bearer ${KEY}"}
    async with (
        listening(noting) as url,
        connected(s={"url": f"{url}/{'mcp' if type_ == 'http' else 'sse'}", "headers": headers}) as tools,
    ):
        assert await answer(tools, "process") == str(os.getpid())
        assert (await call(tools, "add", a=1, b=2))[0] == JsonMessage({"total": 3, "terms": [1, 2]})
    assert set(seen) == {"Bearer secret"}


@pytest.mark.asyncio(loop_scope="module")
async def test_every_kind_of_content(stdio: McpTools) -> None:
    assert await call(stdio, "everything") == [
        TextMessage("plain"),
        BlobMessage(b"data", "image/png"),
        BlobMessage(b"data", "audio/wav"),
        LinkMessage("https://example.com/a.txt"),
        TextMessage("file:///b.txt"),
        TextMessage("embedded"),
        BlobMessage(b"data", "application/pdf", "d.pdf"),
    ]


@pytest.mark.asyncio(loop_scope="module")
async def test_empty_parameters_are_left_out(stdio: McpTools) -> None:
    filters = [{"field": "x"}]
    assert await answer(stdio, "search", query="q", filters=filters, limit=None, deep="") == (
        "q [('x', 10)] None False"
    )
    with pytest.raises(NodeError, match="query"):
        await call(stdio, "search", query="", filters=filters)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_parameters_of_a_tool_are_those_of_its_schema(stdio: McpTools) -> None:
    specs = {spec.name: spec for spec in (await stdio.specs())["s"]}
    parameters = {parameter.name: parameter for parameter in specs["search"].parameters}
    assert specs["search"].description == "Searches."
    assert {
        name: (parameter.type, parameter.required, parameter.default) for name, parameter in parameters.items()
    } == {
        "query": ("string", True, None),
        "filters": ("array", True, None),
        "limit": ("number", False, None),
        "deep": ("boolean", False, False),
    }
    assert parameters["query"].input_schema is None
    schema = parameters["filters"].input_schema
    assert schema is not None
    assert schema["items"]["properties"]["field"] == {"title": "Field", "type": "string"}  # what was a reference
    assert specs["add"].output_schema is not None
    assert not specs["process"].open


@pytest.mark.asyncio(loop_scope="module")
async def test_many_calls_at_once_share_a_connection(stdio: McpTools) -> None:
    pids = await asyncio.gather(*(answer(stdio, "process") for _ in range(5)))
    assert len(set(pids)) == 1
    hanging = asyncio.create_task(answer(stdio, "hang"))
    assert await answer(stdio, "let") == "let"  # is not held up
    assert await hanging == "at last"


# ------------------------------------------------------------------------------------------------------------ failures


@pytest.mark.asyncio(loop_scope="module")
async def test_a_tool_that_fails_fails_the_call(stdio: McpTools) -> None:
    with pytest.raises(NodeError, match="no such city") as failed:
        await call(stdio, "fail", reason="no such city")
    assert failed.value.kind == "ToolInvokeError"


async def test_what_is_not_there_is_named() -> None:
    async with connected(s=STDIO, broken={"command": "/nothing/here"}, gone={"url": "http://127.0.0.1:9/mcp"}) as tools:
        with pytest.raises(NodeError, match="has no tool 'nothing'; its tools are: add, die, environment") as missing:
            await call(tools, "nothing")
        assert missing.value.kind == "ToolNotFoundError"
        with pytest.raises(NodeError, match="The MCP server 'other' is needed: name it in the file of HEADRACE_MCP"):
            await call(tools, "x", provider="other")
        for provider in ("broken", "gone"):
            with pytest.raises(NodeError, match=r"^Failed to connect to MCP server '\w+': .+") as failed:
                await call(tools, "x", provider=provider)
            assert failed.value.kind == "ToolInvokeError"


async def test_a_process_that_dies_fails_the_call_and_is_started_again() -> None:
    async with connected(s=PLAIN) as tools:
        first = await answer(tools, "process")
        with pytest.raises(NodeError, match="Failed to invoke tool: Connection closed"):
            await call(tools, "die")
        second = await answer(tools, "process")
        assert second != first


async def test_a_process_that_died_between_two_calls_is_started_again() -> None:
    async with connected(s=PLAIN) as tools:
        first = await answer(tools, "process")
        (connection,) = tools._connections  # pyright: ignore[reportPrivateUsage]
        os.kill(int(first), signal.SIGKILL)
        await asyncio.wait_for(connection.task, 30)
        assert await answer(tools, "process") != first


async def test_a_server_that_hangs_fails_the_call_and_is_replaced() -> None:
    async with connected(s={**PLAIN, "timeout": 5}) as tools:
        first = await answer(tools, "process")
        with pytest.raises(NodeError, match="timed out"):
            await call(tools, "hang")
        assert await answer(tools, "process") != first


async def test_a_call_that_is_cancelled_leaves_the_connection_to_others() -> None:
    async with connected(s=PLAIN) as tools:
        first = await answer(tools, "process")
        hanging = asyncio.create_task(answer(tools, "hang"))
        await answer(tools, "process")
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert await answer(tools, "process") == first


async def test_rubbish_from_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.5)
    rubbish = "import sys\nfor line in sys.stdin: print('rubbish', flush=True)\n"
    async with connected(s=program(tmp_path, rubbish)) as tools:
        with pytest.raises(NodeError, match=r"Failed to connect to MCP server 's': it did not answer within 0\.5 s"):
            await call(tools, "x")


async def test_rubbish_between_answers_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rubbish = "import sys\nsys.stdout.buffer.write(b'starting up\\n\\xff\\n{}\\n' * 20)\nsys.stdout.flush()\n"
    noisy = f"{rubbish}from tests.tools.mcp_server import new_server\nnew_server().run()\n"
    config = {**program(tmp_path, noisy), "env": {"PYTHONPATH": os.getcwd()}}
    async with connected(s=config) as tools:
        assert (await call(tools, "add", a=1, b=1))[0] == JsonMessage({"total": 2, "terms": [1, 1]})
    (message,) = caplog.messages
    assert message.startswith("the MCP server 's' sent what is not a message: ")


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"rubbish"), (200, b"[]"), (500, b"broken"), (401, b'{"error": "key"}')]
)
async def test_rubbish_from_a_server_elsewhere(status: int, body: bytes) -> None:
    async def respond(request: Request) -> Response:
        return Response(body, status, media_type="application/json")

    app = Starlette(routes=[Route("/mcp", respond, methods=["GET", "POST", "DELETE"])])
    async with listening(app) as url, connected(s={"url": f"{url}/mcp"}) as tools:
        with pytest.raises(NodeError, match=r"^Failed to connect to MCP server '\w+': .+"):
            await call(tools, "x")


async def test_a_session_that_the_server_forgot_is_renewed_once() -> None:
    old = Forgetful()
    app = Starlette(routes=[Route("/mcp", old.respond, methods=["GET", "POST", "DELETE"])])
    async with listening(app) as url, connected(s={"url": f"{url}/mcp"}) as tools:
        assert await answer(tools, "now") == "session 0"
        assert await answer(tools, "now") == "session 0"
        old.sessions.clear()
        assert await answer(tools, "now") == "session 2"
        assert old.calls == ["session 0", "session 0", "session 2"]


CHANGING = """
import json, sys
lists = 0
def send(**message): print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    method, id = request["method"], request.get("id")
    if method == "initialize":
        about = {"capabilities": {"tools": {"listChanged": True}}, "serverInfo": {"name": "old", "version": "1"}}
        send(id=id, result={"protocolVersion": "2025-03-26", **about})
    elif method == "tools/list":
        lists += 1
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ["first", "second"][:lists]]
        send(id=id, result={"tools": tools})
    elif method == "tools/call":
        if request["params"]["arguments"].get("change"):
            send(method="notifications/tools/list_changed")
        send(id=id, result={"content": [{"type": "text", "text": str(lists)}]})
    elif id is not None:
        send(id=id, error={"code": -32601, "message": "Method not found"})
"""


async def test_tools_are_listed_once_and_again_when_they_change(tmp_path: Path) -> None:
    async with connected(s=program(tmp_path, CHANGING)) as tools:
        assert await answer(tools, "first") == "1"
        assert await answer(tools, "first", change=True) == "1"
        assert await answer(tools, "first") == "2"
        assert await answer(tools, "second") == "2"


async def test_tools_are_listed_again_for_one_that_is_not_known(tmp_path: Path) -> None:
    async with connected(s=program(tmp_path, CHANGING)) as tools:
        assert await answer(tools, "first") == "1"
        assert await answer(tools, "second") == "2"


# ------------------------------------------------------------------------------------------------------- configuration


async def test_a_server_lacks_variables_that_are_not_set() -> None:
    async with connected(s={"url": "http://127.0.0.1:9/mcp", "headers": {"a": "${MISSING}"}}) as tools:
        reference = ToolReference("mcp", "s", "S", "x")
        assert tools.missing(reference) == "The MCP server 's' needs MISSING in the environment."
        with pytest.raises(NodeError, match="needs MISSING"):
            await tools.find(reference)


async def test_a_server_is_named_by_its_id_or_its_name() -> None:
    async with connected(s=STDIO) as tools:
        assert tools.missing(ToolReference("mcp", "s", "Something", "x")) is None
        assert tools.missing(ToolReference("mcp", "7d0d…", "s", "x")) is None
        assert "'Something'" in (tools.missing(ToolReference("mcp", "7d0d…", "Something", "x")) or "")


async def test_all_tools_of_a_server_that_is_named_by_its_url() -> None:
    app = new_server().streamable_http_app()
    async with listening(app) as url, connected(s={"url": f"{url}/mcp?key=${{KEY}}"}) as tools:
        endpoint = McpEndpoint(f"{url}/mcp?key=secret")
        known = await tools.of_server(ToolReference("mcp", "127.0.0.1", "127.0.0.1", "", endpoint=endpoint))
        assert {"add", "process"} < {tool.spec.name for tool in known}


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.adapters.tools.mcp.find_spec", lambda _: None)
    tools = McpTools({"s": server_config(STDIO, {})}, Egress())
    assert tools.missing(ToolReference("mcp", "s", "s", "x")) == (
        "The package mcp is needed for the tools of MCP servers: install headrace[mcp]."
    )


@pytest.mark.parametrize(
    ("schema", "type_", "options", "for_model"),
    [
        ({"type": "string"}, "string", (), False),
        ({"type": "string", "enum": ["a", "b"]}, "string", ["a", "b"], False),
        ({"type": "string", "format": "date"}, "string", (), True),
        ({"type": "integer"}, "number", (), True),
        ({"type": "number"}, "number", (), False),
        ({"type": ["boolean", "null"]}, "boolean", (), True),
        ({"type": "object"}, "object", (), True),
        ({"type": "array", "items": {"$ref": "#/$defs/loop"}}, "array", (), True),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number", (), True),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, "any", (), True),
        ({"anyOf": [{"type": "number"}, {}]}, "any", (), True),
        ({"enum": [1, 2]}, "any", (), True),
        ({"$ref": "#/$defs/text"}, "string", (), False),
        ({"$ref": "https://example.com/schema"}, "any", (), True),
        ({}, "any", (), True),
        (True, "any", (), True),
    ],
)
def test_the_type_of_a_parameter(schema: Any, type_: str, options: Any, for_model: bool) -> None:
    definitions = {
        "text": {"type": "string"},
        "loop": {"type": "object", "properties": {"a": {"$ref": "#/$defs/loop"}}},
    }
    root = {"type": "object", "properties": {"p": schema}, "$defs": definitions}
    (parameter,) = tool_spec(Tool(name="t", input_schema=root)).parameters
    assert (parameter.type, parameter.options) == (type_, options)
    assert (parameter.input_schema is not None) is for_model
    assert "$ref" not in json.dumps(parameter.input_schema)


def test_the_package_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, headrace.main, headrace.api.app; print([m for m in ('mcp', 'httpx2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_text_that_is_json_is_objects() -> None:
    def of(text: str) -> list[ToolMessage]:
        return list(messages(CallToolResult(content=[TextContent(type="text", text=text)]), ToolSpec("t")))

    assert of('{"a": 1}') == [JsonMessage({"a": 1})]
    assert of('[{"a": 1}, {"b": 2}]') == [JsonMessage({"a": 1}), JsonMessage({"b": 2})]
    for text in ("[1, 2]", "[]", "5", "null", "plain", '[{"a": 1}, 2]', "[" * 100_000):
        assert of(text) == [TextMessage(text)]


def test_the_file_of_servers(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"

    def read(content: Any) -> Mapping[str, Any]:
        path.write_text(json.dumps(content))
        return read_servers(path, {"KEY": "k"})

    servers = {
        "time": {"command": "uvx", "args": ["mcp-server-time", "--zone=${ZONE:-UTC}"], "autoApprove": ["*"]},
        "web": {"url": "https://example.com/mcp", "headers": {"Authorization": "Bearer ${env:KEY}"}, "type": "http"},
        "old": {"url": "https://example.com/sse"},
        "moved": {"url": "https://example.com/sse", "transport": "streamable_http"},
        "off": {"command": "x", "disabled": True},
    }
    read_all = read({"mcpServers": servers})
    assert list(read_all) == ["time", "web", "old", "moved"]
    assert read_all["time"].args == ("mcp-server-time", "--zone=UTC")
    assert read_all["web"].headers == {"Authorization": "Bearer k"}
    assert [config.transports[0] for config in read_all.values()] == ["stdio", "http", "sse", "http"]
    assert read({"servers": {"x": {"command": "y"}}})["x"].command == "y"
    assert read_servers(None, {}) == {}
    for content, problem in [
        ({}, "has no object 'mcpServers'"),
        ({"mcpServers": {"x": {}}}, "must have either a command or a url"),
        ({"mcpServers": {"x": {"command": "y", "url": "http://z"}}}, "must have either"),
        ({"mcpServers": {"x": {"url": "ftp://z"}}}, "must begin with http"),
        ({"mcpServers": {"x": {"url": "http://z", "type": "ws"}}}, "the type must be one of"),
        ({"mcpServers": {"x": {"command": "y", "timeout": 0}}}, "timeout"),
        ({"mcpServers": {"x": 5}}, "ServerConfig"),
    ]:
        with pytest.raises(HeadraceError, match=problem):
            read(content)


async def test_a_list_of_tools_leaves_out_servers_that_cannot_be_asked(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(
        s=PLAIN, gone={"url": "http://127.0.0.1:9/mcp"}, bare={"command": "x", "args": ["${MISSING}"]}
    ) as tools:
        specs = await tools.specs()
    assert {name: bool(known) for name, known in specs.items()} == {"s": True, "gone": False, "bare": False}
    assert sorted(caplog.messages) == [
        "Failed to connect to MCP server 'gone': All connection attempts failed",
        "The MCP server 'bare' needs MISSING in the environment.",
    ]


def test_definitions_that_name_each_other_many_times_are_cut_off_early():
    names = [f"T{number}" for number in range(20)]
    properties = {name: {"$ref": f"#/$defs/{name}"} for name in names}
    definitions = {name: {"type": "object", "properties": properties} for name in names}
    root = {"type": "object", "properties": {"a": {"$ref": "#/$defs/T0"}}, "$defs": definitions}
    (parameter,) = tool_spec(Tool(name="t", input_schema=root)).parameters
    assert parameter.type == "object"
    assert len(json.dumps(parameter.input_schema)) < 100_000


def test_a_parameter_whose_schema_is_malformed_takes_anything():
    properties = {"a": {"type": [{}]}, "b": {"anyOf": 5}, "c": {"type": {}}, "d": {"type": "string", "enum": 3}}
    root = {"type": "object", "properties": properties}
    parameters = tool_spec(Tool(name="t", input_schema=root)).parameters
    assert [(parameter.type, parameter.options) for parameter in parameters] == [("any", ())] * 3 + [("string", ())]
