"""Connections to MCP servers, through the official package."""

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
    REQUEST_TIMEOUT,
    CallToolResult,
    Implementation,
    Tool,
    ToolListChangedNotification,
)
from pydantic import ValidationError

from headrace import __version__
from headrace.adapters.egress import Egress
from headrace.adapters.tools.mcp.configuration import ServerConfig, Transport
from headrace.adapters.tools.mcp.egress import LARGEST_MESSAGE, GuardedTransport
from headrace.adapters.tools.mcp.messages import INVOKE_ERROR
from headrace.errors import NodeError

logger = logging.getLogger(__name__)
logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs the URL of every request, which may have a key
# they log a traceback, which may have a URL, for everything that is not a message
for _name in ("stdio", "sse", "streamable_http"):
    logging.getLogger(f"mcp.client.{_name}").setLevel(logging.CRITICAL)

CONNECT_SECONDS = 30.0
_CLOSE_SECONDS = 10.0  # longer than the package takes to kill a process that does not end
_OTHER_TRANSPORT = (400, 404, 405)  # how a server may respond to a transport that it does not speak
_ERROR_RESPONSES = ("Server returned an error response", "Not Found")  # all that the package says of a status
_NO_CREDENTIALS = "it needs a valid key or token in a header; OAuth is not supported"


class Connection:
    """A connection to a server. A task of its own opens and closes it, because the package binds it to one.

    `is_closed`: it has ended, or could not be opened. `is_expired`: the server has forgotten its session.
    """

    def __init__(self, name: str, config: ServerConfig, egress: Egress | None) -> None:
        self.is_closed = False
        self.is_expired = False
        self.calls = 0  # that use it
        self.tools: Mapping[str, Tool] | None = None  # None: to be listed
        self.task = asyncio.create_task(self._keep(), name=f"MCP server {name}")
        self._name = name
        self._config = config
        self._egress = egress
        self._end = asyncio.Event()
        self._client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._connecting_until: asyncio.Timeout | None = None
        self._is_sse = False
        self._status = 0  # of the last HTTP response to a message
        self._sends_rubbish = False

    async def client(self) -> Client:
        """The client, once it is connected. NodeError if it cannot connect."""
        return await asyncio.shield(self._client)

    def end(self) -> None:
        """Closes it, without waiting for that."""
        self._end.set()
        if not self._client.done():
            self.task.cancel()

    async def aclose(self) -> None:
        self.end()
        _, pending = await asyncio.wait((self.task,), timeout=_CLOSE_SECONDS)
        for task in pending:
            logger.warning("the MCP server '%s' does not end", self._name)
            task.cancel()

    def problem(self, error: BaseException) -> str:
        """What went wrong, in a sentence: of a group, what the first of its errors says."""
        while isinstance(error, BaseExceptionGroup):
            error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
        if isinstance(error, ValidationError):
            problem = error.errors(include_url=False)[0]
            return f"its message is not valid: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        text = error.message if isinstance(error, MCPError) else str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            text = f"it did not answer within {CONNECT_SECONDS:g} s"
        timed_out = isinstance(error, TimeoutError) or (isinstance(error, MCPError) and error.code == REQUEST_TIMEOUT)
        # the text of a status has the URL, which may have a key; over SSE it is not passed on
        is_status = text in _ERROR_RESPONSES or isinstance(error, httpx2.HTTPStatusError)
        if is_status or ((timed_out or self._is_sse) and self._status >= 400):
            text = f"it responded with the HTTP status {self._status}"
        return f"{text} ({_NO_CREDENTIALS})" if self._status == 401 else text

    async def _keep(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(CONNECT_SECONDS) as self._connecting_until:
                    client = await self._open(stack)
                self._client.set_result(client)
                await self._end.wait()
        except Exception as error:
            if self._client.done():
                logger.warning("the connection to the MCP server '%s' broke: %s", self._name, self.problem(error))
            else:
                self._fail(self.problem(error))
        finally:
            self.is_closed = True
            if not self._client.done():
                self._fail("it is being closed")

    def _fail(self, problem: str) -> None:
        message = f"Failed to connect to MCP server '{self._name}': {problem}"
        self._client.set_exception(NodeError(message, INVOKE_ERROR))
        self._client.exception()  # marks it as seen: it does not matter if nobody waits for it

    async def _open(self, stack: AsyncExitStack) -> Client:
        first: str | None = None
        for transport in self._config.transports:
            try:
                client = await stack.enter_async_context(self._connecting(transport))
            except Exception as error:
                first = first or self.problem(error)
                if self._status not in _OTHER_TRANSPORT:
                    raise
                self.is_closed = False  # only this attempt has ended
                self._end.clear()
            else:
                if self._egress is not None:  # the patterns in a stranger's schema may take forever
                    client.session.validate_tool_result = _accept
                return client
        raise ConnectionError(first)

    def _connecting(self, transport: Transport) -> Client:
        return Client(
            _watched(self._streams(transport), self._on_end),
            read_timeout_seconds=self._config.timeout,
            client_info=Implementation(name="headrace", version=__version__),
            message_handler=self._on_message,
            cache=None,  # tools are kept here
        )

    @asynccontextmanager
    async def _streams(self, transport: Transport) -> AsyncGenerator[Any]:
        config, self._is_sse = self._config, transport == "sse"
        if transport == "stdio":
            parameters = StdioServerParameters(
                command=config.command,
                args=list(config.args),
                env=dict(config.env),
                cwd=None if config.cwd is None else str(config.cwd),
                encoding_error_handler="replace",
            )
            errlog = sys.__stderr__ or sys.stderr  # what it logs is for the operator
            async with stdio_client(parameters, errlog=errlog) as streams:
                yield streams
        elif transport == "sse":
            headers, read = dict(config.headers), config.timeout
            async with sse_client(
                config.url, headers, timeout=CONNECT_SECONDS, sse_read_timeout=read, httpx_client_factory=self._http
            ) as streams:
                yield streams
        else:
            timeout = httpx2.Timeout(CONNECT_SECONDS, read=config.timeout)
            async with (
                self._http(dict(config.headers), timeout) as http,
                streamable_http_client(config.url, http_client=http, max_sse_event_size=LARGEST_MESSAGE) as streams,
            ):
                yield streams

    def _http(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=headers,
            timeout=timeout,
            auth=auth,
            event_hooks={"response": [self._on_response]},
            transport=None if self._egress is None else GuardedTransport(self._egress),
        )

    def _on_end(self) -> None:
        self.is_closed = True
        self._end.set()

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self.tools = None
        elif isinstance(message, Exception) and not self._sends_rubbish:
            self._sends_rubbish = True  # a program may well print thousands of lines: one of them is enough in the log
            logger.warning("the MCP server '%s' sent what is not a message: %s", self._name, self.problem(message))

    async def _on_response(self, response: httpx2.Response) -> None:
        is_message = response.request.method == "POST"
        if is_message or not self._client.done():
            self._status = response.status_code
        if is_message and response.is_error and self._is_sse:
            self._on_refused()
        if response.status_code == 404 and "mcp-session-id" in response.request.headers:
            self.is_expired = True

    def _on_refused(self) -> None:
        """Ends a connection over SSE whose server refused a message. The package sends no more messages over it, and
        would let the caller wait for the answer until the timeout."""
        if self._client.done():
            self._on_end()
        elif self._connecting_until is not None:
            self._connecting_until.reschedule(asyncio.get_running_loop().time())


async def _accept(name: str, result: CallToolResult) -> None:
    """Takes a result as it is, in place of the package's check of its output schema."""


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
