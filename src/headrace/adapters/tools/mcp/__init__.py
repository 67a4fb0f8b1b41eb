"""The tools of MCP servers: those that the operator has configured, and those that a workflow file names by URL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydantic import ValidationError

from headrace.adapters.egress import Egress
from headrace.adapters.tools.mcp.configuration import ServerConfig, read_servers
from headrace.adapters.tools.mcp.messages import arguments, messages, tool_spec
from headrace.adapters.tools.registry import NOT_FOUND
from headrace.errors import NodeError
from headrace.frozen import frozen
from headrace.ports.services import McpEndpoint, Tool, ToolContext, ToolMessage, ToolReference, ToolSpec
from headrace.values import Value

if TYPE_CHECKING:
    from headrace.adapters.tools.mcp.connection import Connection
    from headrace.adapters.tools.mcp.server import McpServer

__all__ = ["McpTool", "McpTools", "ServerConfig", "read_servers"]

logger = logging.getLogger(__name__)

_NO_PACKAGE = "The package mcp is needed for the tools of MCP servers: install headrace[mcp]."


class McpTools:
    """Implements `ToolSource` for the provider type `mcp`. `servers` are those that are configured, by name; those of
    workflow files obey `egress`."""

    def __init__(self, servers: Mapping[str, ServerConfig], egress: Egress) -> None:
        self._configs = servers
        self._egress = egress
        self._servers: dict[str | McpEndpoint, McpServer] = {}
        self._connections: set[Connection] = set()

    async def find(self, reference: ToolReference) -> Tool:
        """See `Tools.find`."""
        server = self._server(reference)
        tools = await server.tools(reference.tool_name)
        if (tool := tools.get(reference.tool_name)) is None:
            names = ", ".join(sorted(tools)) or "none"
            message = f"The MCP server '{server.name}' has no tool '{reference.tool_name}'; its tools are: {names}."
            raise NodeError(message, NOT_FOUND)
        return McpTool(tool_spec(tool), server)

    async def of_server(self, reference: ToolReference) -> Sequence[Tool]:
        """See `Tools.of_server`."""
        server = self._server(reference)
        return [McpTool(tool_spec(tool), server) for tool in (await server.tools()).values()]

    def missing(self, reference: ToolReference) -> str | None:
        """See `Tools.missing`."""
        name = self._configured(reference)
        if name is None and reference.endpoint is None:
            return f"The MCP server '{reference.provider_name}' is needed: name it in the file of HEADRACE_MCP_SERVERS."
        if name is not None and (unset := self._configs[name].unset):
            return f"The MCP server '{name}' needs {', '.join(unset)} in the environment."
        return None if find_spec("mcp") else _NO_PACKAGE

    async def specs(self) -> Mapping[str, Sequence[ToolSpec]]:
        """See `ToolSource.specs`. A server that cannot be asked has none, which is logged."""
        specs = await asyncio.gather(*(self._specs(name) for name in self._configs))
        return dict(zip(self._configs, specs, strict=True))

    async def _specs(self, name: str) -> Sequence[ToolSpec]:
        try:
            return [tool.spec for tool in await self.of_server(ToolReference("mcp", name, name, ""))]
        except NodeError as error:
            logger.warning("%s", error)
            return ()

    async def aclose(self) -> None:
        await asyncio.gather(*(connection.aclose() for connection in self._connections))
        self._egress.close()

    def _configured(self, reference: ToolReference) -> str | None:
        """The name of a reference's server in the configuration. The reference has the identifier that its workspace
        chose, what people call it, or its URL."""
        for name in (reference.provider_id, reference.provider_name):
            if name in self._configs:
                return name
        url = reference.endpoint and reference.endpoint.url
        return next((name for name, config in self._configs.items() if config.url and config.url == url), None)

    def _server(self, reference: ToolReference) -> McpServer:
        """NodeError if it is missing, or the file's URL or headers are not valid."""
        if (problem := self.missing(reference)) is not None:
            raise NodeError(problem, NOT_FOUND)
        from headrace.adapters.tools.mcp.server import McpServer

        key = self._configured(reference) or reference.endpoint
        assert key is not None
        if (server := self._servers.get(key)) is not None:
            return server
        if isinstance(key, str):
            server = McpServer(key, self._configs[key], self._connections)
        else:  # files may name any number of servers: those that are not in use any more are forgotten
            self._servers = {k: s for k, s in self._servers.items() if isinstance(k, str) or s.is_connected}
            config = _config(reference.provider_name, key)
            server = McpServer(reference.provider_name, config, self._connections, self._egress)
        self._servers[key] = server
        return server


@frozen
class McpTool:
    """Implements `Tool`."""

    spec: ToolSpec
    server: McpServer

    async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncGenerator[ToolMessage]:
        """See `Tool.call`."""
        result = await self.server.call(self.spec.name, arguments(parameters), context.key)
        for message in messages(result, self.spec):
            yield message


def _config(name: str, endpoint: McpEndpoint) -> ServerConfig:
    """The configuration of a server that a file names by its URL. NodeError if that is not valid."""
    try:
        fields = {"url": endpoint.url, "type": endpoint.type, "headers": dict(endpoint.headers)}
        return ServerConfig.model_validate(fields)
    except ValidationError as error:
        raise NodeError(f"The MCP server '{name}' is not valid: {error.errors()[0]['msg']}", NOT_FOUND) from None
