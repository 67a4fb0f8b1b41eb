"""Connections to MCP servers, through the official package: opened when first needed, kept, and opened again when they
are lost. Imported when a workflow first names a server, since the package takes half a second."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, cast

import httpx2
from mcp import StdioServerParameters, stdio_client
from mcp.client import Client, IncomingMessage
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CONNECTION_CLOSED,
    REQUEST_TIMEOUT,
    CallToolResult,
    Implementation,
    Tool,
    ToolListChangedNotification,
)
from pydantic import ValidationError

from headrace import __version__
from headrace.adapters.tools.mcp.configuration import ServerConfig
from headrace.adapters.tools.mcp.messages import INVOKE_ERROR
from headrace.errors import NodeError
from headrace.values import Value

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 30.0
_CLOSE_SECONDS = 10.0  # longer than the package takes to kill a process that does not end
_MOST_PAGES = 100  # of a list of tools
_IDEMPOTENCY_KEY = "headrace/idempotency_key"


class Connection:
    """A connection to a server. A task of its own opens and closes it, because the package binds it to one.

    `is_closed`: it has ended, or could not be opened. `is_expired`: the server has forgotten its session.
    """

    def __init__(self, name: str, config: ServerConfig) -> None:
        self.is_closed = False
        self.is_expired = False
        self.calls = 0  # that use it
        self.tools: Mapping[str, Tool] | None = None  # None: to be listed
        self._name = name
        self._config = config
        self._end = asyncio.Event()
        self._client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(), name=f"MCP server {name}")

    async def client(self) -> Client:
        """The client, once it is connected. NodeError if it cannot connect."""
        return await asyncio.shield(self._client)

    def end(self) -> None:
        """Closes it, without waiting for that."""
        self._end.set()
        if not self._client.done():
            self._task.cancel()

    async def aclose(self) -> None:
        self.end()
        _, pending = await asyncio.wait((self._task,), timeout=_CLOSE_SECONDS)
        for task in pending:
            logger.warning("the MCP server '%s' does not end", self._name)
            task.cancel()

    async def _keep(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(CONNECT_SECONDS):
                    client = await self._open(stack)
                self._client.set_result(client)
                await self._end.wait()
        except Exception as error:
            if self._client.done():
                logger.warning("the connection to the MCP server '%s' broke: %s", self._name, _problem(error))
            else:
                self._fail(_problem(error))
        finally:
            self.is_closed = True
            if not self._client.done():
                self._fail("it is being closed")

    def _fail(self, problem: str) -> None:
        self._client.set_exception(NodeError(f"Failed to connect to MCP server: {problem}", INVOKE_ERROR))
        self._client.exception()  # marks it as seen: it does not matter if nobody waits for it

    async def _open(self, stack: AsyncExitStack) -> Client:
        client = Client(
            _watched(await self._transport(stack), self._on_end),
            read_timeout_seconds=self._config.timeout,
            client_info=Implementation(name="headrace", version=__version__),
            message_handler=self._on_message,
            cache=None,  # tools are kept here
        )
        return await stack.enter_async_context(client)

    async def _transport(self, stack: AsyncExitStack) -> AbstractAsyncContextManager[Any]:
        config = self._config
        if config.transport == "stdio":
            parameters = StdioServerParameters(
                command=config.command, args=list(config.args), env=dict(config.env), cwd=config.cwd
            )
            return stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr)  # what it logs is for the operator
        headers = dict(config.headers)
        if config.transport == "sse":
            return sse_client(config.url, headers, timeout=CONNECT_SECONDS, sse_read_timeout=config.timeout)
        timeout = httpx2.Timeout(CONNECT_SECONDS, read=config.timeout)
        http = httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks={"response": [self._on_response]})
        return streamable_http_client(config.url, http_client=await stack.enter_async_context(http))

    def _on_end(self) -> None:
        self.is_closed = True
        self._end.set()

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self.tools = None

    async def _on_response(self, response: httpx2.Response) -> None:
        if response.status_code == 404 and "mcp-session-id" in response.request.headers:
            self.is_expired = True


class McpServer:
    """A server, whose tools can be called any number of times and at once."""

    def __init__(self, name: str, config: ServerConfig) -> None:
        self.name = name
        self._config = config
        self._connection: Connection | None = None
        self._open: set[Connection] = set()  # the connection, and older ones that calls still use

    async def tools(self, wanted: str | None = None) -> Mapping[str, Tool]:
        """Its tools by name, as they were when last listed; listed again if the one that is wanted is not among them.
        NodeError if that is not possible."""
        async with self._connected() as connection:
            if connection.tools is None or (wanted is not None and wanted not in connection.tools):
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
                        raise NodeError(f"Failed to invoke tool: {_problem(error)}", INVOKE_ERROR) from error
        raise AssertionError("the second attempt returns or raises")

    async def aclose(self) -> None:
        await asyncio.gather(*(connection.aclose() for connection in self._open))
        self._open.clear()

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Connection]:
        """The connection, for the duration of the block: a new one if there is none, or it is lost."""
        connection = self._connection
        if connection is None or connection.is_closed:
            connection = self._connection = Connection(self.name, self._config)
            self._open = {connection, *(older for older in self._open if not older.is_closed)}
        connection.calls += 1
        try:
            await connection.client()
            yield connection
        finally:
            connection.calls -= 1
            if connection is not self._connection and not connection.calls:
                connection.end()

    async def _list(self, connection: Connection) -> Mapping[str, Tool]:
        client, tools, cursor = await connection.client(), dict[str, Tool](), None
        try:
            for _ in range(_MOST_PAGES):
                page = await client.list_tools(cursor=cursor)
                tools |= {tool.name: tool for tool in page.tools}
                if (cursor := page.next_cursor) is None:
                    break
        except (MCPError, ValidationError) as error:
            self._examine(connection, error)
            raise NodeError(f"Failed to list the tools of the server: {_problem(error)}", INVOKE_ERROR) from error
        return tools

    def _examine(self, connection: Connection, error: Exception) -> None:
        """Takes a connection out of use that is lost, or whose server does not answer any more."""
        lost = isinstance(error, MCPError) and error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT)
        if (lost or connection.is_expired) and self._connection is connection:
            self._connection = None


class _Watched:
    """A stream of a server's messages that reports its end."""

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        return await self._stream.__anext__()

    async def __aenter__(self) -> _Watched:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._on_end()
        return await self._stream.__aexit__(kind, error, traceback)


@asynccontextmanager
async def _watched(transport: AbstractAsyncContextManager[Any], on_end: Callable[[], None]) -> AsyncGenerator[Any]:
    """A transport that reports when the server has closed the connection."""
    async with transport as (incoming, outgoing):
        yield _Watched(incoming, on_end), outgoing


def _problem(error: BaseException) -> str:
    """What went wrong, in a sentence: of a group, what the first of its errors says."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, TimeoutError):
        return f"it did not answer within {CONNECT_SECONDS:g} s"
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        return f"its message is not valid: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return error.message if isinstance(error, MCPError) else str(error) or type(error).__name__
