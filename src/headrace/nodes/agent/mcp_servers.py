"""The MCP servers that some agent strategies take as parameters, which offer all their tools to the model.

mcp_server           one URL
mcp_servers_config   JSON: {"name": {"transport": "sse", "url": ..., "headers": ...}, ...}, also under "mcpServers"
"""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.parse import urlsplit

from headrace.errors import NodeError
from headrace.ports.services import McpEndpoint, ToolReference
from headrace.values import Value


def servers_in(url: Value, config: Value) -> list[ToolReference]:
    """The servers that the two parameters name. NodeError if they are malformed."""
    servers = {_host(url.strip()): url} if isinstance(url, str) and url.strip() else {}
    return [_reference(name, server) for name, server in {**servers, **_configured(config)}.items()]


def _configured(config: Value) -> dict[str, Any]:
    value: Any = config
    if isinstance(config, str):
        try:
            value = json.loads(config, strict=False) if config.strip() else None
        except (ValueError, RecursionError) as error:
            raise NodeError(f"mcp_servers_config is not valid JSON: {error}", "AgentNodeError") from None
    if value is None:
        return {}
    servers: Any = cast("dict[str, Any]", value).get("mcpServers", value) if isinstance(value, dict) else None
    if not isinstance(servers, dict):
        raise NodeError("mcp_servers_config is not an object with MCP servers.", "AgentNodeError")
    return cast("dict[str, Any]", servers)


def _reference(name: str, server: Any) -> ToolReference:
    """A server that is a command has no endpoint: only the operator's own file may name commands."""
    fields = cast("dict[str, Any]", server if isinstance(server, dict) else {"url": server})
    url, type_ = fields.get("url"), fields.get("transport") or fields.get("type")
    headers: Any = fields.get("headers") or {}
    if not isinstance(url, str) or not url.strip():
        return ToolReference("mcp", name, name, "")
    if not isinstance(headers, dict):
        raise NodeError(f"mcp_servers_config: the headers of '{name}' are not an object.", "AgentNodeError")
    pairs = tuple((key, str(value)) for key, value in cast("dict[str, Any]", headers).items())
    return ToolReference("mcp", name, name, "", endpoint=McpEndpoint(url.strip(), str(type_ or ""), pairs))


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or url
    except ValueError:
        raise NodeError("mcp_server is not a valid URL.", "AgentNodeError") from None
