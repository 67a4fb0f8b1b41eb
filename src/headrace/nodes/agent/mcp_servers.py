"""The MCP servers that some agent strategies take as parameters, which offer all their tools to the model.

mcp_server           one URL
mcp_servers_config   JSON: {"name": {"type": "sse", "url": ...}, ...}, or the same under "mcpServers"
"""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.parse import urlsplit

from headrace.errors import NodeError
from headrace.ports.services import ToolReference


def servers_in(url: str, config: str) -> list[ToolReference]:
    """The servers that the two parameters name. NodeError if the second one is malformed."""
    urls = {_host(url): url.strip()} if url.strip() else {}
    return [_reference(name, address) for name, address in {**urls, **_configured(config)}.items()]


def _configured(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    try:
        value: Any = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise NodeError(f"mcp_servers_config is not valid JSON: {error}", "AgentNodeError") from None
    servers: Any = cast("dict[str, Any]", value).get("mcpServers", value) if isinstance(value, dict) else None
    if not isinstance(servers, dict):
        raise NodeError("mcp_servers_config is not an object with MCP servers.", "AgentNodeError")
    return {name: _url(server) for name, server in cast("dict[str, Any]", servers).items()}


def _url(server: Any) -> str:
    """The URL of a server; "" for one that is a command, which only the operator's own file may name."""
    url: Any = cast("dict[str, Any]", server).get("url") if isinstance(server, dict) else server
    return url.strip() if isinstance(url, str) else ""


def _host(url: str) -> str:
    try:
        return urlsplit(url.strip()).hostname or url.strip()
    except ValueError:
        raise NodeError("mcp_server is not a valid URL.", "AgentNodeError") from None


def _reference(name: str, url: str) -> ToolReference:
    return ToolReference("mcp", url or name, name, "")
