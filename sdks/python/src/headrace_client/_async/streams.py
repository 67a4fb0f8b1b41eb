"""Streams of events, resumed after lost connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol

import httpx

from headrace_client.errors import APIConnectionError, HeadraceError, StreamInterruptedError
from headrace_client.event_reader import EventReader
from headrace_client.events import Event
from headrace_client.models import WorkflowRun
from headrace_client.response_model import request_id
from headrace_client.wire import connection_error, normalize_run, parse_model

_RESUME_DELAY = 1.0  # seconds, doubled after each connection without an event
_MAX_EMPTY_CONNECTIONS = 4  # in a row

OpenStream = Callable[[], Awaitable[httpx.Response]]


class Recovery(Protocol):
    """How a stream continues after a cut."""

    async def sleep(self, seconds: float) -> None: ...

    async def resume(self, reader: EventReader) -> httpx.Response | None:
        """The stream after the last event; None if the server cannot resume."""
        ...

    async def fetch_outcome(self, reader: EventReader) -> list[dict[str, Any]]:
        """The last events of the stream, made from what can be fetched now."""
        ...


class AsyncStream:
    """The events of a run as they arrive: an iterator and a context manager.

    The request is sent when the first event is requested. After a lost connection the stream is resumed if the server
    supports that; otherwise the run's outcome is fetched and returned as an event (`synthesized`).
    StreamInterruptedError if that fails, too. These can be read at any time: `run_id`, `task_id`, `message_id`,
    `conversation_id`, `text`, `last_event`, and `run` once the run has ended.
    """

    def __init__(self, start: OpenStream, recovery: Recovery, reader: EventReader) -> None:
        self._reader = reader
        self._events = _iterate_events(start, recovery, reader)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self._events.__anext__()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connection. The run continues."""
        await self._events.aclose()

    async def until_done(self) -> AsyncStream:
        """Reads the stream to its end."""
        async for _ in self:
            pass
        return self

    @property
    def response(self) -> httpx.Response | None:
        """The HTTP response of the events; after a cut, of the last connection. None before the first event."""
        return self._reader.response

    @property
    def request_id(self) -> str | None:
        """The server's id of that request."""
        return None if self.response is None else request_id(self.response.headers)

    @property
    def run_id(self) -> str | None:
        return self._reader.run_id

    @property
    def task_id(self) -> str | None:
        return self._reader.task_id

    @property
    def message_id(self) -> str | None:
        return self._reader.message_id

    @property
    def conversation_id(self) -> str | None:
        return self._reader.conversation_id

    @property
    def text(self) -> str:
        """All text streamed so far."""
        return self._reader.text

    @property
    def last_event(self) -> Event | None:
        return self._reader.last_event

    @property
    def run(self) -> WorkflowRun | None:
        """The run, once it has ended."""
        event = self._reader.finished_event
        if event is None:
            return None
        data = dict(event["data"])
        payload: dict[str, Any] = {"workflow_run_id": self.run_id, "task_id": self.task_id, "data": data}
        node = self._reader.failed_node
        if node is not None and data.get("status") == "failed":
            payload["error_node"] = {
                "id": node.id,
                "node_id": node.node_id,
                "title": node.title,
                "type": node.node_type,
            }
        return parse_model(WorkflowRun, normalize_run(payload))


async def _iterate_events(start: OpenStream, recovery: Recovery, reader: EventReader) -> AsyncGenerator[Event, None]:
    """All events. Has no reference to its AsyncStream, so that it is closed when that is garbage collected."""
    response = await start()
    empty_connections = 0
    while True:
        reader.response = response
        count_before = reader.event_count
        connection_failure: Exception | None = None
        try:
            chunks = response.aiter_bytes()
            while True:
                try:
                    chunk = await chunks.__anext__()
                except StopAsyncIteration:
                    break
                except httpx.RequestError as error:
                    connection_failure = connection_error(error, response.request.method, str(response.request.url))
                    connection_failure.__cause__ = error
                    break
                ended, count = reader.ended, reader.event_count
                for event in _feed(reader, chunk):
                    yield event
                if ended and reader.event_count == count:
                    return  # only pings follow the last event
        finally:
            await response.aclose()
        if reader.ended:
            return
        reader.discard_partial()
        empty_connections = 0 if reader.event_count > count_before else empty_connections + 1
        try:
            if empty_connections:
                if empty_connections == _MAX_EMPTY_CONNECTIONS:
                    raise APIConnectionError("the stream broke again and again", run_id=reader.run_id)
                await recovery.sleep(_RESUME_DELAY * 2 ** (empty_connections - 1))
            next_response = await recovery.resume(reader)
            last_events = [] if next_response is not None else await recovery.fetch_outcome(reader)
        except HeadraceError as error:
            raise _interrupted_error(reader, error) from (connection_failure or error)
        if next_response is None:
            for payload in last_events:
                yield reader.add_synthesized(payload)
            return
        response = next_response


def _feed(reader: EventReader, chunk: bytes) -> list[Event]:
    try:
        return reader.feed(chunk)
    except ValueError as error:
        raise _interrupted_error(reader, HeadraceError(str(error))) from error


def _interrupted_error(reader: EventReader, error: HeadraceError) -> StreamInterruptedError:
    name = reader.run_id or reader.message_id
    what = f"The stream of {name} was cut" if name else "The stream was cut before anything was known about its run"
    where = f" after {reader.last_event.event}" if reader.last_event is not None else ""
    interruption = StreamInterruptedError(
        f"{what}{where}: {error.message}",
        status=error.status,
        code=error.code,
        request_id=error.request_id,
        run_id=reader.run_id,
        task_id=reader.task_id,
    )
    interruption.last_event = reader.last_event
    interruption.text = reader.text
    interruption.message_id = reader.message_id
    interruption.conversation_id = reader.conversation_id
    return interruption
