"""The tools of MCP servers that the operator has configured. Workflow files only name a server and a tool."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from headrace.adapters.tools.mcp.configuration import ServerConfig, read_servers
from headrace.adapters.tools.mcp.messages import arguments, messages, tool_spec
from headrace.adapters.tools.registry import NOT_FOUND
from headrace.errors import NodeError
from headrace.ports.services import Tool, ToolContext, ToolMessage, ToolReference, ToolSpec
from headrace.values import Value

if TYPE_CHECKING:
    from headrace.adapters.tools.mcp.server import McpServer

__all__ = ["McpTool", "McpTools", "ServerConfig", "read_servers"]

logger = logging.getLogger(__name__)

_USER = re.compile(r"(?<=://)[^/]*@")
_NO_PACKAGE = "The package mcp is needed for the tools of MCP servers: install headrace[mcp]."


class McpTools:
    """Implements `ToolSource` for the provider type `mcp`. `servers` are those that are configured, by name."""

    def __init__(self, servers: Mapping[str, ServerConfig]) -> None:
        self._configs = servers
        self._servers: dict[str, McpServer] = {}

    async def find(self, reference: ToolReference) -> Tool:
        """See `Tools.find`."""
        if (problem := self.missing(reference)) is not None:
            raise NodeError(problem, NOT_FOUND)
        server = self._server(self._named(reference))
        tools = await server.tools(reference.tool_name)
        if (tool := tools.get(reference.tool_name)) is None:
            names = ", ".join(sorted(tools)) or "none"
            message = f"The MCP server '{server.name}' has no tool '{reference.tool_name}'; its tools are: {names}."
            raise NodeError(message, NOT_FOUND)
        return McpTool(tool_spec(tool), server)

    async def of_server(self, reference: ToolReference) -> Sequence[Tool]:
        """All tools of the server that a reference names, by its name or its URL. NodeError as `find`."""
        if (problem := self.missing(reference)) is not None:
            raise NodeError(problem, NOT_FOUND)
        server = self._server(self._named(reference))
        return [McpTool(tool_spec(tool), server) for tool in (await server.tools()).values()]

    def missing(self, reference: ToolReference) -> str | None:
        """See `Tools.missing`."""
        name = self._named(reference)
        if name not in self._configs:
            shown = f"at {_without_secrets(name)}" if "://" in name else f"'{name}'"
            return f"The MCP server {shown} is needed: name it in the file of HEADRACE_MCP_SERVERS."
        if unset := self._configs[name].unset:
            return f"The MCP server '{name}' needs {', '.join(unset)} in the environment."
        return None if find_spec("mcp") else _NO_PACKAGE

    async def specs(self) -> Mapping[str, Sequence[ToolSpec]]:
        """See `ToolSource.specs`. A server that cannot be asked has none, which is logged."""
        specs = await asyncio.gather(*(self._specs(name) for name in self._configs))
        return dict(zip(self._configs, specs, strict=True))

    async def _specs(self, name: str) -> Sequence[ToolSpec]:
        if (problem := self.missing(ToolReference("mcp", name, name, ""))) is None:
            try:
                return [tool_spec(tool) for tool in (await self._server(name).tools()).values()]
            except NodeError as error:
                problem = f"The MCP server '{name}' cannot list its tools: {error}"
        logger.warning("%s", problem)
        return ()

    async def aclose(self) -> None:
        for server in self._servers.values():
            await server.aclose()

    def _named(self, reference: ToolReference) -> str:
        """The name of a reference's server, which it gives by the identifier that its workspace chose, by what people
        call it, or by its URL. If none is configured, what is to be configured."""
        id_, name = reference.provider_id, reference.provider_name
        if id_ in self._configs or name in self._configs:
            return id_ if id_ in self._configs else name
        by_url = (known for known, config in self._configs.items() if config.url and config.url == id_)
        return next(by_url, id_ if "://" in id_ else name)

    def _server(self, name: str) -> McpServer:
        if name not in self._servers:
            from headrace.adapters.tools.mcp.server import McpServer

            self._servers[name] = McpServer(name, self._configs[name])
        return self._servers[name]


@dataclass(frozen=True, slots=True)
class McpTool:
    """Implements `Tool`."""

    spec: ToolSpec
    server: McpServer

    async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncIterator[ToolMessage]:
        """See `Tool.call`."""
        result = await self.server.call(self.spec.name, arguments(parameters), context.key)
        for message in messages(result, self.spec):
            yield message


def _without_secrets(url: str) -> str:
    """The URL without its query, user and password."""
    return _USER.sub("", url.partition("?")[0])
