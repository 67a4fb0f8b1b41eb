"""Streams: a run's events as they come, over as many connections as it takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol

import httpx

from headrace_client.errors import APIConnectionError, HeadraceError, StreamInterruptedError
from headrace_client.event_reader import Reader
from headrace_client.events import Event
from headrace_client.models import WorkflowRun, request_id, workflow_run
from headrace_client.wire import connection_error, typed

_GET_ON = 1.0  # seconds, doubled, between tries to go on that brought nothing
_TRIES = 4

Open = Callable[[], Awaitable[httpx.Response]]


class Recovery(Protocol):
    """How a stream goes on after a cut."""

    async def sleep(self, seconds: float) -> None: ...

    async def resume(self, reader: Reader) -> httpx.Response | None:
        """The stream from where it was cut; None where the server has no such thing."""
        ...

    async def outcome(self, reader: Reader) -> list[dict[str, Any]]:
        """The events that the stream would have ended with, made from what can be asked now."""
        ...


class AsyncStream:
    """The events of a run, as they come: an iterator and a context manager.

    It begins when it is first asked for an event. A cut connection is resumed where the server can; where it cannot,
    the run's outcome is fetched, and told as one event (`synthesized`). StreamInterruptedError where that fails, too.
    What it has learned can be read at any time: `run_id`, `task_id`, `message_id`, `conversation_id`, `text`,
    `last_event`, and `run` once the run has ended.
    """

    def __init__(self, start: Open, recovery: Recovery, reader: Reader) -> None:
        self._reader = reader
        self._events = _events(start, recovery, reader)

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
        """Lets the connection go. The run goes on."""
        await self._events.aclose()

    async def until_done(self) -> AsyncStream:
        """Reads on to the end."""
        async for _ in self:
            pass
        return self

    @property
    def response(self) -> httpx.Response | None:
        """The HTTP response that the events come from; the last one, after a cut. None before the first event."""
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
        """All text that has been streamed so far."""
        return self._reader.text

    @property
    def last_event(self) -> Event | None:
        return self._reader.last

    @property
    def run(self) -> WorkflowRun | None:
        """How the run ended, once that was told."""
        finished = self._reader.finished
        if finished is None:
            return None
        told: dict[str, Any] = {"workflow_run_id": self.run_id, "task_id": self.task_id, "data": dict(finished["data"])}
        node = self._reader.failed
        if node is not None and told["data"].get("status") == "failed":
            told["error_node"] = {"id": node.id, "node_id": node.node_id, "title": node.title, "type": node.node_type}
        return typed(WorkflowRun, workflow_run(told))


async def _events(start: Open, recovery: Recovery, reader: Reader) -> AsyncGenerator[Event, None]:
    """All events. Knows nothing of the AsyncStream that it is for, so that one that is dropped ends it."""
    response = await start()
    fruitless = 0
    while True:
        reader.response = response
        before = reader.told
        broken: Exception | None = None
        try:
            chunks = response.aiter_bytes()
            while True:
                try:
                    chunk = await chunks.__anext__()
                except StopAsyncIteration:
                    break
                except httpx.RequestError as error:
                    broken = connection_error(error, response.request.method, str(response.request.url))
                    broken.__cause__ = error
                    break
                over, count = reader.over, reader.told
                for event in _fed(reader, chunk):
                    yield event
                if over and reader.told == count:
                    return  # pings after the end: nothing more will come
        finally:
            await response.aclose()
        if reader.over:
            return
        reader.cut()
        fruitless = 0 if reader.told > before else fruitless + 1
        try:
            if fruitless:
                if fruitless == _TRIES:
                    raise APIConnectionError("the stream broke again and again", run_id=reader.run_id)
                await recovery.sleep(_GET_ON * 2 ** (fruitless - 1))
            resumed = await recovery.resume(reader)
            ending = [] if resumed is not None else await recovery.outcome(reader)
        except HeadraceError as error:
            raise _interrupted(reader, error) from (broken or error)
        if resumed is None:
            for told in ending:
                yield reader.synthesized(told)
            return
        response = resumed


def _fed(reader: Reader, chunk: bytes) -> list[Event]:
    try:
        return reader.feed(chunk)
    except ValueError as error:
        raise _interrupted(reader, HeadraceError(str(error))) from error


def _interrupted(reader: Reader, error: HeadraceError) -> StreamInterruptedError:
    known = reader.run_id or reader.message_id
    what = f"The stream of {known} was cut" if known else "The stream was cut before anything was known of its run"
    last = f" after {reader.last.event}" if reader.last is not None else ""
    interrupted = StreamInterruptedError(
        f"{what}{last}: {error.message}",
        status=error.status,
        code=error.code,
        request_id=error.request_id,
        run_id=reader.run_id,
        task_id=reader.task_id,
    )
    interrupted.last_event = reader.last
    interrupted.text = reader.text
    interrupted.message_id = reader.message_id
    interrupted.conversation_id = reader.conversation_id
    return interrupted
