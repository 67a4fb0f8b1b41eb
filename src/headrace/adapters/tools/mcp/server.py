"""MCP servers, whose connections are opened when first needed, kept, and opened again when they are lost. Imported when
a workflow first names a server, since the official package takes half a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from mcp.shared.exceptions import MCPError
from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, Tool
from pydantic import ValidationError

from headrace.adapters.egress import Egress
from headrace.adapters.tools.mcp.configuration import ServerConfig
from headrace.adapters.tools.mcp.connection import Connection
from headrace.adapters.tools.mcp.egress import LARGEST_MESSAGE
from headrace.adapters.tools.mcp.messages import INVOKE_ERROR
from headrace.errors import NodeError
from headrace.values import Value

IDLE_SECONDS = 60.0  # that a connection to a server which a file names is kept without a call
_MOST_PAGES = 100  # of a list of tools, which together have LARGEST_MESSAGE bytes at most
_IDEMPOTENCY_KEY = "headrace/idempotency_key"


class McpServer:
    """A server, whose tools can be called any number of times and at once.

    `connections` are the open ones of all servers, to be closed in the end. With `egress`, which its requests then
    obey, the server is one that a file names: its connection is closed when it has not been used for a while.
    """

    def __init__(
        self, name: str, config: ServerConfig, connections: set[Connection], egress: Egress | None = None
    ) -> None:
        self.name = name
        self._config = config
        self._connections = connections
        self._egress = egress
        self._connection: Connection | None = None
        self._idle: asyncio.TimerHandle | None = None

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed

    async def tools(self, name: str | None = None) -> Mapping[str, Tool]:
        """Its tools by name, as they were when last listed; listed again if the one that is wanted is not among them.
        NodeError if that is not possible."""
        async with self._connected() as connection:
            if connection.tools is None or (name is not None and name not in connection.tools):
                connection.tools = await self._list(connection)
            return connection.tools

    async def call(self, tool: str, arguments: dict[str, Value], key: str) -> CallToolResult:
        """Calls a tool. A call that is lost may have had its effect, so it is not repeated; one that the server refused
        because it has forgotten the session is, in a new one. NodeError if the call fails."""
        for is_repeated in (False, True):
            async with self._connected() as connection:
                client = await connection.client()
                try:
                    return await client.call_tool(tool, arguments, meta={_IDEMPOTENCY_KEY: key})
                except (MCPError, RuntimeError, ValidationError) as error:  # the latter two: not what the schema says
                    self._examine(connection, error)
                    if not connection.is_expired or is_repeated:
                        raise NodeError(f"Failed to invoke tool: {connection.problem(error)}", INVOKE_ERROR) from error
        raise AssertionError("the second attempt returns or raises")

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Connection]:
        """The connection, for the duration of the block: a new one if there is none, or it is lost."""
        connection = self._connection
        if connection is None or connection.is_closed:
            connection = self._connection = Connection(self.name, self._config, self._egress)
            self._connections.add(connection)
            connection.task.add_done_callback(lambda _: self._connections.discard(connection))
        connection.calls += 1
        if self._idle is not None:
            self._idle.cancel()
        try:
            await connection.client()
            yield connection
        finally:
            connection.calls -= 1
            if not connection.calls:
                if connection is not self._connection:
                    connection.end()
                elif self._egress is not None:
                    self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, connection.end)

    async def _list(self, connection: Connection) -> Mapping[str, Tool]:
        client, tools, cursor, size = await connection.client(), dict[str, Tool](), None, 0
        try:
            for _ in range(_MOST_PAGES):
                page = await client.list_tools(cursor=cursor)
                tools |= {tool.name: tool for tool in page.tools}
                if (cursor := page.next_cursor) is None:
                    return tools
                size += len(page.model_dump_json())
                if size > LARGEST_MESSAGE:
                    break
        except (MCPError, ValidationError) as error:
            self._examine(connection, error)
            problem = f"Failed to list the tools of the MCP server '{self.name}': {connection.problem(error)}"
            raise NodeError(problem, INVOKE_ERROR) from error
        problem = (
            f"The MCP server '{self.name}' lists its tools on more than {_MOST_PAGES} pages, or in more than "
            f"{LARGEST_MESSAGE} bytes."
        )
        raise NodeError(problem, INVOKE_ERROR)

    def _examine(self, connection: Connection, error: Exception) -> None:
        """Takes a connection out of use that is lost, or whose server does not answer any more."""
        lost = isinstance(error, MCPError) and error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT)
        if (lost or connection.is_expired) and self._connection is connection:
            self._connection = None
