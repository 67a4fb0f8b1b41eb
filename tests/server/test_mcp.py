"""A workflow whose tool node calls an MCP server, in a Headrace that is itself called over MCP."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from tests.cli.flows import flow
from tests.server.process import Serve

ROOT = Path(__file__).parent.parent.parent


def tool(id_: str, name: str, provider: str = "test", **parameters: object) -> dict[str, object]:
    return {
        "id": id_,
        "type": "tool",
        "title": id_.title(),
        "provider_type": "mcp",
        "provider_id": provider,
        "provider_name": provider.title(),
        "tool_name": name,
        "tool_parameters": {
            key: {"type": "variable" if isinstance(value, list) else "constant", "value": value}
            for key, value in parameters.items()
        },
        "tool_configurations": {},
    }


async def test_a_tool_calls_a_tool(tmp_path: Path) -> None:
    servers = tmp_path / "mcp.json"
    command = {"command": sys.executable, "args": ["-m", "tests.tools.mcp_server"], "cwd": str(ROOT)}
    clock = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}  # a server that is not ours
    servers.write_text(json.dumps({"mcpServers": {"test": command, "clock": clock}}))
    file = flow(
        tmp_path / "sum.yml",
        tool("sum", "add", a=["start", "a"], b="3"),
        tool("process", "process"),
        tool("to_tokyo", "convert_time", "clock", time="12:00", source_timezone="UTC", target_timezone="Asia/Tokyo"),
        variables=[{"variable": "a", "label": "A", "type": "number", "required": True}],
        outputs={
            "total": ("sum", "total"),
            "json": ("sum", "json"),
            "pid": ("process", "text"),
            "tokyo": ("to_tokyo", "target"),
        },
    )
    failing = flow(tmp_path / "failing.yml", tool("fail", "fail", reason="no such city"))
    with Serve(tmp_path, [file, failing], {"HEADRACE_MCP_SERVERS": str(servers)}) as serve:

        async def call(app: str, arguments: dict[str, object]) -> CallToolResult:
            headers = {"Authorization": f"Bearer {serve.keys[app]}"}
            async with (
                httpx2.AsyncClient(headers=headers, timeout=60) as http,
                Client(streamable_http_client(f"{serve.url}/mcp", http_client=http)) as client,
            ):
                (listed,) = (await client.list_tools()).tools
                return await client.call_tool(listed.name, arguments)

        result = (await call("sum", {"a": 2})).structured_content
        assert result is not None
        pid = int(result.pop("pid"))
        assert result.pop("tokyo")["datetime"].endswith("T21:00:00+09:00")
        assert result == {"total": 5, "json": [{"total": 5, "terms": [2, 3]}]}
        failed = await call("failing", {})
        (content,) = failed.content
        assert failed.is_error
        assert isinstance(content, TextContent)
        assert content.text.startswith("Failed to invoke tool Test: ")
        assert "no such city" in content.text
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
