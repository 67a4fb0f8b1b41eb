"""Responses: JSON, and events as they come.

JSON is encoded by orjson where possible, by the standard library otherwise: orjson rejects integers beyond 64 bits,
which a workflow can compute, and lone surrogates, which only a third-party node can return; `content.surrogates`
replaces them.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from typing import Any, cast

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headrace.content.surrogates import mend_text
from headrace.frozen import frozen
from headrace.values import Value, json_default, json_default_with_origin

_JSON = "application/json"
PING = b"event: ping\n\n"
HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
_BUFFER_SIZE = 256 * 1024  # bytes that may wait for a slow client


@frozen
class Inputs:
    """A node's inputs inside an event: encoded with the origin of its Variables (see `values`)."""

    values: Mapping[str, Value]


def _encode_default(item: object) -> Value:
    return (
        orjson.Fragment(encode(item.values, json_default_with_origin))
        if isinstance(item, Inputs)
        else json_default(item)
    )


def encode(value: Any, default: Callable[[object], Value] = _encode_default) -> bytes:
    """Compact UTF-8 JSON; numbers that JSON does not have (NaN, Infinity) are null."""
    try:
        # dataclasses pass through: orjson would encode files and variables in a way of its own
        return orjson.dumps(value, default, orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError:
        return mend_text(_dumps(_finite(value), default)).encode()


def _dumps(value: Any, default: Callable[[object], Value]) -> str:
    def default_of(item: object) -> Value:
        if isinstance(item, Inputs):
            return json.loads(_dumps(_finite(item.values), json_default_with_origin))
        return _finite(default(item))

    return json.dumps(value, default=default_of, separators=(",", ":"), ensure_ascii=False)


def encode_text(value: Any) -> str:
    """JSON within JSON (the inputs and outputs of a run's detail): spaced, as Dify stores it."""
    text = json.dumps(_finite(value), ensure_ascii=False, default=lambda item: _finite(json_default(item)))
    return mend_text(text)


def iso(at: float) -> str:
    """Seconds since the epoch as ISO 8601, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _finite(value: Value) -> Value:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in cast("dict[str, Value]", value).items()}
        case list() | tuple():
            return [_finite(item) for item in cast("list[Value]", value)]
        case _:
            return value


def json_response(
    body: Mapping[str, Value] | Sequence[Mapping[str, Value]],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An object, or several, as JSON."""
    return Response(encode(body), status, headers, _JSON)


def success() -> Response:
    """Success without a result, in Dify's form."""
    return Response(b'{"result": "success"}', media_type=_JSON)


def no_content() -> Response:
    """Success with an empty body."""
    return Response(status_code=204)


class EventStream(Response):
    """Sends what `events` yields (server-sent events) as it comes, pings in between, and ends when the client
    disconnects. `stack` is closed at the end, whatever the end is. After `ping` seconds without an event, `ping_event`
    is sent.

    Two tasks share a buffer: one collects events, the other sends all that are there in one write. So a burst of tokens
    costs one write, and waiting for the next event never has to be cancelled to send a ping.
    """

    def __init__(
        self, events: AsyncGenerator[bytes], ping: float, stack: AsyncExitStack | None = None, ping_event: bytes = PING
    ) -> None:
        super().__init__(headers=dict(HEADERS))
        del self.headers["content-length"]
        self._events = events
        self._ping = ping
        self._ping_event = ping_event
        self._stack = stack or AsyncExitStack()
        self._buffer: list[bytes] = []
        self._size = 0
        self._change = asyncio.Event()
        self._has_room = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await self.close()
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body"})
            return
        async with self._stack:
            collecting = asyncio.create_task(self._collect())
            collecting.add_done_callback(lambda _: self._change.set())
            sending = asyncio.create_task(self._send(send, collecting))
            disconnecting = asyncio.create_task(disconnected(receive))
            try:
                await asyncio.wait((sending, disconnecting), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (collecting, sending, disconnecting):
                    task.cancel()
                results = await asyncio.gather(sending, collecting, disconnecting, return_exceptions=True)
            if isinstance(results[0], Exception):
                raise results[0]

    async def close(self) -> None:
        """Closes a stream that is not sent after all."""
        await self._stack.aclose()

    async def _collect(self) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                self._buffer.append(event)
                self._size += len(event)
                self._change.set()
                while self._size > _BUFFER_SIZE:
                    self._has_room.clear()
                    await self._has_room.wait()

    async def _send(self, send: Send, collecting: asyncio.Task[None]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if not self._buffer:  # the head leaves with the first bytes of the body, even if these are none
            await send({"type": "http.response.body", "body": b"", "more_body": True})
        while True:
            if not self._buffer and not collecting.done():
                self._change.clear()
                try:
                    async with asyncio.timeout(self._ping):
                        await self._change.wait()
                except TimeoutError:
                    self._buffer.append(self._ping_event)
            if self._buffer:
                body, self._buffer, self._size = b"".join(self._buffer), [], 0
                self._has_room.set()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            elif collecting.done():
                collecting.result()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return


async def disconnected(receive: Receive) -> None:
    """Returns when the client has disconnected. For a request whose body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass
