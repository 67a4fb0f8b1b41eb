"""MCP servers that a workflow file names by their URL: strangers, whom the rules for http-request nodes apply to."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import count
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from headrace.adapters.egress import Egress
from headrace.adapters.tools.mcp import McpTools, connection, egress, server
from headrace.errors import NodeError
from headrace.ports.services import McpEndpoint, Tool, ToolReference
from headrace.ports.services.tool_parameters import parameters_schema
from tests.tools.calling import CONTEXT
from tests.tools.mcp_server import new_server
from tests.tools.mcp_world import Forgetful, connected, listening

HERE = ("127.0.0.1",)
Respond = Callable[[Request], Awaitable[Response]]


def reference(url: str, type_: str = "", **headers: str) -> ToolReference:
    return ToolReference("mcp", "theirs", "theirs", "", endpoint=McpEndpoint(url, type_, tuple(headers.items())))


async def offered(tools: McpTools, url: str, type_: str = "", **headers: str) -> dict[str, Tool]:
    return {tool.spec.name: tool for tool in await tools.of_server(reference(url, type_, **headers))}


async def result(tool: Tool, **parameters: Any) -> list[Any]:
    return [message async for message in tool.call(parameters, CONTEXT)]


def at_mcp(respond: Respond) -> Starlette:
    return Starlette(routes=[Route("/mcp", respond, methods=["GET", "POST", "DELETE"])])


class Scripted(Forgetful):
    """A server of the protocol with sessions, whose lists and calls are answered by `answers`, by method."""

    def __init__(self, **answers: Callable[[Any], Any]) -> None:
        super().__init__()
        self.answers = answers

    async def respond(self, request: Request) -> Response:
        body = await request.json() if request.method == "POST" else {}
        answer = self.answers.get(body.get("method", "").replace("/", "_"))
        if answer is None:
            return await super().respond(request)
        value = answer(body.get("params"))
        return value if isinstance(value, Response) else self._result(body, value)


def named(*names: str, **more: Any) -> dict[str, Any]:
    return {"tools": [{"name": name, "inputSchema": {"type": "object"}, **more} for name in names]}


# --------------------------------------------------------------------------------------------------------- connecting


@pytest.mark.parametrize(
    ("served", "path", "type_"), [("http", "mcp", ""), ("http", "mcp", "http"), ("sse", "sse", "")]
)
async def test_a_server_is_called_with_the_headers_of_the_file(served: str, path: str, type_: str) -> None:
    official = new_server()
    app = official.streamable_http_app() if served == "http" else official.sse_app()
    keys: set[bytes] = set()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        keys.update(value for name, value in scope.get("headers", ()) if name == b"authorization")
        await app(scope, receive, send)

    async with listening(noting) as url, connected(HERE) as tools:
        theirs = await offered(tools, f"{url}/{path}", type_, Authorization="Bearer k")
        assert (await result(theirs["add"], a=1, b=2))[0].value == {"total": 3, "terms": [1, 2]}
    assert keys == {b"Bearer k"}


@pytest.mark.parametrize(("served", "path"), [("sse", "events"), ("http", "v1/sse")])
async def test_without_a_type_the_other_transport_is_tried(served: str, path: str) -> None:
    official = new_server()
    app = (
        official.sse_app(sse_path="/events")
        if served == "sse"
        else official.streamable_http_app(streamable_http_path="/v1/sse")
    )
    async with listening(app) as url, connected(HERE) as tools:
        assert "add" in await offered(tools, f"{url}/{path}")


async def test_calls_share_a_connection_if_url_and_headers_are_the_same() -> None:
    theirs = Scripted(tools_list=lambda _: named("now"))
    async with listening(at_mcp(theirs.respond)) as url, connected(HERE) as tools:
        for key in ("a", "a", "b"):
            tool = (await offered(tools, f"{url}/mcp", Authorization=key))["now"]
            await asyncio.gather(*(result(tool) for _ in range(3)))
        assert len(theirs.sessions) == 2
        assert len(theirs.calls) == 9


async def test_a_connection_that_is_not_used_is_closed_and_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.01)
    theirs = Scripted(tools_list=lambda _: named("now"))
    async with listening(at_mcp(theirs.respond)) as url, connected(HERE) as tools:
        tool = (await offered(tools, f"{url}/mcp"))["now"]
        await closed(tools)
        await result(tool)
        assert len(theirs.sessions) == 2
        await closed(tools)
        await offered(tools, f"{url}/mcp", Authorization="another")
        assert len(tools._servers) == 1  # pyright: ignore[reportPrivateUsage]


async def closed(tools: McpTools) -> None:
    async with asyncio.timeout(60):
        while connections := tools._connections:  # pyright: ignore[reportPrivateUsage]
            await asyncio.wait([connection.task for connection in connections])


async def test_the_configuration_of_the_operator_comes_first() -> None:
    async with connected(theirs={"url": "http://127.0.0.1:9/mcp", "headers": {"key": "${MISSING}"}}) as tools:
        for url in ("http://127.0.0.1:9/mcp", "https://elsewhere.example/mcp"):
            assert tools.missing(reference(url)) == "The MCP server 'theirs' needs MISSING in the environment."


class OldServer:
    """A server of the SSE transport that sends `rubbish` in place of answers."""

    def __init__(self, rubbish: int = 0) -> None:
        self.rubbish = rubbish
        self.posted = asyncio.Event()

    async def events(self, request: Request) -> Response:
        async def events() -> AsyncGenerator[str]:
            yield "event: endpoint\ndata: /messages?key=secret\n\n"
            await self.posted.wait()
            for _ in range(self.rubbish):
                yield "event: message\ndata: rubbish\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def message(self, request: Request) -> Response:
        self.posted.set()
        return Response(status_code=202)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/sse", self.events), Route("/messages", self.message, methods=["POST"])])


async def test_neither_urls_nor_floods_of_rubbish_get_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(OldServer(rubbish=100).app) as url, connected(HERE) as tools:
        with pytest.raises(NodeError):
            await offered(tools, f"{url}/sse?key=secret")
    assert "secret" not in caplog.text
    (message,) = [message for message in caplog.messages if "what is not a message" in message]
    assert message.startswith("the MCP server 'theirs' sent")
    assert not [record for record in caplog.records if record.name.startswith("mcp.client")]


class Refusing(OldServer):
    """Keeps its stream of events open, and responds with 503 to messages of one method."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def events(self, request: Request) -> Response:
        async def events() -> AsyncGenerator[str]:
            yield "event: endpoint\ndata: /messages\n\n"
            while True:
                yield f"event: message\ndata: {json.dumps(await self.sent.get())}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def message(self, request: Request) -> Response:
        message = await request.json()
        if message["method"] == self.method:
            return Response(status_code=503)
        about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "old", "version": "1"}}
        results = {"initialize": {"protocolVersion": "2024-11-05", **about}, "tools/list": named("now")}
        if message["method"] in results:
            await self.sent.put({"jsonrpc": "2.0", "id": message["id"], "result": results[message["method"]]})
        return Response(status_code=202)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("initialize", "Failed to connect to MCP server 'theirs'"),
        ("tools/list", "Failed to list the tools of the MCP server 'theirs'"),
        ("tools/call", "Failed to invoke tool"),
    ],
)
async def test_a_message_that_a_server_over_sse_refuses_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, method: str, message: str
) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 300)
    async with asyncio.timeout(60), listening(Refusing(method).app) as url, connected(HERE) as tools:
        with pytest.raises(NodeError) as raised:
            await result((await offered(tools, f"{url}/sse", "sse"))["now"])
        assert str(raised.value) == f"{message}: it responded with the HTTP status 503"


# ------------------------------------------------------------------------------------------------------------- egress


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]", "2130706433"])
async def test_an_address_that_is_not_public_is_refused(host: str) -> None:
    reached: list[str] = []

    async def respond(request: Request) -> Response:
        reached.append(request.method)
        return JSONResponse({})

    async with listening(at_mcp(respond)) as url, connected() as tools:
        for type_ in ("http", "sse"):
            with pytest.raises(NodeError, match=r"'theirs': Requests to .* are refused"):
                await offered(tools, url.replace("127.0.0.1", host) + "/mcp", type_)
    assert reached == []


async def test_a_name_whose_address_changes_is_checked_again_and_is_the_host() -> None:
    resolved: list[str] = []
    hosts: set[str] = set()

    async def resolve(host: str, port: int) -> Sequence[str]:
        resolved.append(host)
        return ["127.0.0.1"] if len(resolved) == 1 else ["169.254.169.254"]

    async def respond(request: Request) -> Response:
        hosts.add(request.headers["host"])
        return JSONResponse({"error": "no"}, 403)

    async with listening(at_mcp(respond)) as url:
        port = url.rpartition(":")[2]
        tools = McpTools({}, Egress(["127.0.0.1"], resolve))
        with pytest.raises(NodeError, match=r"theirs.example:\d+ are refused"):
            await offered(tools, f"http://theirs.example:{port}/mcp")
        await tools.aclose()
    assert (hosts, resolved) == ({f"theirs.example:{port}"}, ["theirs.example"] * 2)


async def test_a_name_that_does_not_exist_is_said() -> None:
    async with connected() as tools:
        with pytest.raises(NodeError, match=r"Failed to connect to MCP server 'theirs': .*(not known|resolution)"):
            await offered(tools, "http://nothing.invalid/mcp")


async def test_a_redirect_elsewhere_is_not_followed() -> None:
    inside: list[str] = []

    async def internal(request: Request) -> Response:
        inside.append(request.method)
        return JSONResponse({})

    async with listening(at_mcp(internal)) as secret:

        async def away(request: Request) -> Response:
            return RedirectResponse(f"{secret}/mcp", 307)

        async with listening(at_mcp(away)) as url, connected(HERE) as tools:
            for type_ in ("http", "sse"):
                with pytest.raises(NodeError, match=r"Failed to connect to MCP server 'theirs': .*(not followed|307)"):
                    await offered(tools, f"{url}/mcp", type_)
    assert inside == []


# ------------------------------------------------------------------------------------------------------ hostile servers


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({}, "it needs a valid key or token in a header"),
        ({"WWW-Authenticate": 'Bearer resource_metadata="https://a.example"'}, "OAuth is not supported"),
    ],
)
@pytest.mark.parametrize("type_", ["http", "sse"])
async def test_a_server_that_needs_credentials(headers: dict[str, str], problem: str, type_: str) -> None:
    async def refuse(request: Request) -> Response:
        return Response("who are you?", 401, headers)

    async with listening(at_mcp(refuse)) as url, connected(HERE) as tools:
        with pytest.raises(NodeError, match=problem) as failed:
            await offered(tools, f"{url}/mcp?key=secret", type_)
    assert str(failed.value).startswith(
        "Failed to connect to MCP server 'theirs': it responded with the HTTP status 401"
    )
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("type_", "headers", "problem"),
    [
        ("ws", {}, "the type must be one of stdio, http"),
        ("stdio", {}, "a server with a url cannot be of the type stdio"),
        ("", {"X-Key": "a\r\nX-Other: b"}, "header"),
        ("", {"X Key": "a"}, "header"),
    ],
)
async def test_what_the_file_says_wrong_is_named(type_: str, headers: dict[str, str], problem: str) -> None:
    async with listening(at_mcp(Forgetful().respond)) as url, connected(HERE) as tools:
        with pytest.raises(NodeError, match=f"'theirs'.*{problem}"):
            await offered(tools, f"{url}/mcp", type_, **headers)
        with pytest.raises(NodeError, match="the url must begin with http"):
            await offered(tools, "file:///etc/passwd")


async def test_compressed_and_huge_answers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "LARGEST_MESSAGE", 10_000)
    bomb = Response(
        gzip.compress(bytes(1_000_000)), headers={"Content-Encoding": "gzip"}, media_type="application/json"
    )
    theirs = Scripted(tools_list=lambda _: named("now", description="x" * 10_000))
    async with listening(at_mcp(theirs.respond)) as url, connected(HERE) as tools:
        with pytest.raises(NodeError, match="Failed to list the tools of the MCP server 'theirs'"):
            await offered(tools, f"{url}/mcp")
        theirs.answers = {"tools_list": lambda _: named("now"), "tools_call": lambda _: bomb}
        tool = (await offered(tools, f"{url}/mcp"))["now"]
        with pytest.raises(NodeError, match="Failed to invoke tool"):
            await result(tool)


async def test_a_list_of_tools_without_an_end_is_given_up() -> None:
    pages: list[Any] = []

    def page(params: Any) -> Any:
        pages.append(params)
        return {**named(f"tool{len(pages)}"), "nextCursor": "more"}

    async with listening(at_mcp(Scripted(tools_list=page).respond)) as url, connected(HERE) as tools:
        with pytest.raises(NodeError, match="lists its tools on more than 100 pages"):
            await offered(tools, f"{url}/mcp")
    assert len(pages) == 100


async def test_a_list_of_tools_is_limited_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LARGEST_MESSAGE", 10_000)
    pages = count()
    theirs = Scripted(tools_list=lambda _: {**named(f"tool{next(pages)}", description="x" * 999), "nextCursor": "more"})
    async with listening(at_mcp(theirs.respond)) as url, connected(HERE) as tools:
        with pytest.raises(NodeError, match="or in more than 10000 bytes"):
            await offered(tools, f"{url}/mcp")
    assert next(pages) < 12


async def test_a_schema_of_results_cannot_stop_the_process() -> None:
    """A pattern that takes exponential time is not applied."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    theirs = Scripted(
        tools_list=lambda _: named("now", outputSchema=schema),
        tools_call=lambda _: {"content": [], "structuredContent": {"a": "a" * 50 + "!"}},
    )
    async with listening(at_mcp(theirs.respond)) as url, connected(HERE) as tools:
        (message,) = await result((await offered(tools, f"{url}/mcp"))["now"])
        assert message.name == "a"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]},
        {"type": "object", "properties": {"\ud7ff\u202e": {}, "": {"type": "string"}}},
    ],
)
async def test_odd_schemas(schema: Any) -> None:
    theirs = Scripted(tools_list=lambda _: {"tools": [{"name": "🐙", "inputSchema": schema}]})
    async with listening(at_mcp(theirs.respond)) as url, connected(HERE) as tools:
        spec = (await offered(tools, f"{url}/mcp"))["🐙"].spec
        json.dumps(parameters_schema(spec))


async def test_a_stream_of_events_without_an_end_times_out() -> None:
    async def forever() -> Any:
        while True:
            yield b"event: message\ndata: \n\n"
            await asyncio.sleep(0.01)

    stream = Scripted(tools_call=lambda _: StreamingResponse(forever(), media_type="text/event-stream"))
    config: dict[str, Any] = {"timeout": 1}
    async with listening(at_mcp(stream.respond)) as url, connected(s={"url": f"{url}/mcp", **config}) as tools:
        tool = await tools.find(ToolReference("mcp", "s", "s", "now"))
        with pytest.raises(NodeError, match="timed out"):
            await result(tool)
        stream.answers = {}
        assert len(await result(tool)) == 1  # in a new session


async def test_an_answer_of_several_megabytes_arrives() -> None:
    large = MCPServer("large")

    @large.tool(structured_output=False)
    def text(size: int) -> str:
        return "x" * size

    async with listening(large.streamable_http_app()) as url, connected(HERE) as tools:
        tool = (await offered(tools, f"{url}/mcp"))["text"]
        assert [len(message.text) for message in await result(tool, size=5_000_000)] == [5_000_000]
