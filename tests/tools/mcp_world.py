"""MCP servers for tests, and tools that are connected to them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.adapters.egress import Egress
from headrace.adapters.tools.mcp import McpTools
from headrace.adapters.tools.mcp.configuration import server_config
from headrace.ports.services import ToolMessage
from headrace.values import Value
from tests.api.serving import Quiet
from tests.tools.calling import answer_of, messages_of

STDIO = {"command": sys.executable, "args": ["-m", "tests.tools.mcp_server"], "env": {"GREETING": "hello"}}
PLAIN = {"command": sys.executable, "args": ["-I", str(Path(__file__).with_name("plain_mcp_server.py"))]}


@asynccontextmanager
async def connected(allow: Sequence[str] = (), **servers: Any) -> AsyncGenerator[McpTools]:
    """The tools of these servers, and of those at hosts that `allow` has."""
    configs = {name: server_config(config, {"KEY": "secret"}) for name, config in servers.items()}
    tools = McpTools(configs, Egress(allow))
    try:
        yield tools
    finally:
        await tools.aclose()


@asynccontextmanager
async def listening(app: Callable[..., Any]) -> AsyncGenerator[str]:
    """The URL of an application on a free port."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1)
    running = Quiet(config)
    task = asyncio.create_task(running.serve())
    await running.listens.wait()
    host, port = running.servers[0].sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        running.leave.set()
        await task


def program(folder: Path, source: str) -> dict[str, Any]:
    """A server that is a Python program of its own."""
    (folder / "server.py").write_text(source)
    return {"command": sys.executable, "args": [str(folder / "server.py")]}


async def call(tools: McpTools, tool: str, provider: str = "s", **parameters: Value) -> list[ToolMessage]:
    return await messages_of(tools, provider, tool, parameters, "mcp")


async def answer(tools: McpTools, tool: str, provider: str = "s", **parameters: Value) -> str:
    return await answer_of(tools, provider, tool, parameters, "mcp")


class Forgetful:
    """A server of the protocol with sessions, by hand. It forgets the sessions that `forget` is told of."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.calls: list[str] = []

    async def respond(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405)
        body = await request.json()
        session = request.headers.get("mcp-session-id")
        if body["method"] == "server/discover":
            return self._error(body, 400)
        if body["method"] == "initialize":
            self.sessions.append(f"session {len(self.calls)}")
            about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "old", "version": "1"}}
            return self._result(body, {"protocolVersion": "2025-06-18", **about}, {"Mcp-Session-Id": self.sessions[-1]})
        if session not in self.sessions:
            return self._error(body, 404)
        if "id" not in body:
            return Response(status_code=202)
        if body["method"] == "tools/list":
            return self._result(body, {"tools": [{"name": "now", "inputSchema": {"type": "object"}}]})
        self.calls.append(session or "")
        return self._result(body, {"content": [{"type": "text", "text": session}]})

    def _result(self, body: Any, result: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": result}, headers=headers)

    def _error(self, body: Any, status: int) -> Response:
        error = {"code": -32600, "message": "Bad Request"}
        return JSONResponse({"jsonrpc": "2.0", "id": body.get("id"), "error": error}, status)
