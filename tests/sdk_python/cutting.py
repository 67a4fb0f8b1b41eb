"""A transport for httpx that returns recorded streams, and cuts them: for tests that would need too many sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, data: bytes, broken: bool, piece: int) -> None:
        self._data, self._broken, self._piece = data, broken, piece

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), self._piece):
            yield self._data[start : start + self._piece]
        if self._broken:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def places(stream: bytes, quarter: int, *, orderly: bool) -> list[int]:
    """Where to cut the stream: at every fourth byte. Where the end looks orderly, which only adds a check at the end
    of what arrived: at fewer bytes, and around the ends of the frames."""

    def matters(at: int) -> bool:
        return not orderly or at % 20 == quarter or b"\n\n" in stream[max(0, at - 4) : at + 4]

    return [at for at in range(quarter, len(stream), 4) if matters(at)]


class Cutting(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Cuts the n-th connection's stream after `cuts[n]` bytes; later streams are sent completely.

    `resumes`: like Headrace, which sends what follows a Last-Event-ID; otherwise like Dify, which has a run's detail.
    `orderly`: the cut looks like an end, as if a proxy had lost the server and closed its own response in order.
    """

    def __init__(
        self, stream: bytes, cuts: list[int], *, resumes: bool, piece: int = 4096, orderly: bool = False
    ) -> None:
        self.stream = stream
        self.cuts = cuts
        self.orderly = orderly
        self.resumes = resumes
        self.piece = piece
        self.calls: list[str] = []
        self.detail: dict[str, Any] | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.calls.append(f"{request.method} {path}")
        if path == "/v1/workflows/run":
            return self._streamed(self.stream)
        if path.startswith("/v1/workflow/") and self.resumes:
            return self._streamed(self._after(request.headers["last-event-id"]))
        if path.startswith("/api/workflow-runs/") and self.resumes:
            return httpx.Response(200, json={}, headers={"Headrace-API-Version": "1"})
        if path.startswith("/v1/workflows/run/") and self.detail is not None:
            return httpx.Response(200, json=self.detail)
        return httpx.Response(404, text="<title>Not Found</title>", headers={"Content-Type": "text/html"})

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)

    def _streamed(self, data: bytes) -> httpx.Response:
        size = self.cuts.pop(0) if self.cuts else None
        broken = size is not None and size < len(data) and not self.orderly
        body = _Body(data if size is None else data[:size], broken, self.piece)
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=body)

    def _after(self, place: str) -> bytes:
        mark = f"id: {place}\n\n".encode()
        at = self.stream.find(mark)
        return self.stream[at + len(mark) :] if at >= 0 else self.stream


def with_places(stream: bytes) -> bytes:
    """A recorded stream of Dify as Headrace would send it."""
    blocks = [block for block in stream.split(b"\n\n") if block.startswith(b"data:")]
    return b"".join(b"%b\nid: %d\n\n" % (block, number) for number, block in enumerate(blocks, 1))


def events_in(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: ")]
