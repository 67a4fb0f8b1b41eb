"""The load generator: HTTP/1.1 over raw sockets, kept alive; each connection sends its next request after a response.

A process of its own, so that the measured service has its event loop to itself. Reads jobs as lines of JSON from stdin
until it ends, and writes the result of each as a line to stdout. A job:

    {"port", "path", "headers": {...}, "body": text, "connections": N, "requests": N in all, "seconds": at most,
     "expect": text that each response must contain, "first": text whose arrival is timed (""; none)}

A result, times in seconds:

    {"elapsed", "latencies": [...], "firsts": [...], "wrong": how many responses were not 200 or not as expected,
     "example": one of those, "unanswered", "body": bytes of the last response's body, "counted": how often the job's
     "count" (see `count`) was in the responses}
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any, cast

HOST = "127.0.0.1"


class Connection(asyncio.Protocol):
    """Sends a request, reads the whole response, and repeats."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.transport: asyncio.Transport | None = None
        self.parts: list[bytes] = []
        self.began = 0.0
        self.first: float | None = None
        self.needed = 0  # bytes of the response still to come; below 0: unknown
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        if not self.job.take():
            return
        assert self.transport is not None
        self.parts = []
        self.needed = -1
        self.first = None
        self.busy = True
        self.began = time.perf_counter()
        self.transport.write(self.job.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.parts.append(data)
        if self.first is None and self.job.first and self.job.first in (data if len(self.parts) == 1 else self.tail()):
            self.first = now - self.began
        if self.needed < 0:
            so_far = b"".join(self.parts)
            head_end = so_far.find(b"\r\n\r\n")
            if head_end < 0:
                return
            length = _length(so_far[:head_end])
            if length is None:  # chunked
                if self.tail().endswith(b"0\r\n\r\n"):
                    self.answered(now)
                return
            self.needed = head_end + 4 + length - len(so_far)
        else:
            self.needed -= len(data)
        if self.needed == 0:
            self.answered(now)

    def tail(self) -> bytes:
        """The last bytes received, however they were cut."""
        return b"".join(self.parts[-2:])

    def answered(self, now: float) -> None:
        self.busy = False
        self.job.answered(now - self.began, self.first, b"".join(self.parts))
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.job.lost(exc)


class Stream(Connection):
    """A connection whose answers are chunked and long: it looks at their last bytes only."""

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)
        if self.first is None and self.job.first in self.tail():
            self.first = time.perf_counter() - self.began
        if self.tail().endswith(b"\r\n0\r\n\r\n"):
            self.answered(time.perf_counter())


class Job:
    def __init__(self, job: dict[str, Any], done: Callable[[], None]) -> None:
        body = job["body"].encode()
        head = [f"POST {job['path']} HTTP/1.1", f"Host: {HOST}:{job['port']}", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in job["headers"].items()]
        self.request = "\r\n".join(head).encode() + b"\r\n\r\n" + body
        self.expect: bytes = job["expect"].encode()
        self.first: bytes = job.get("first", "").encode()
        self.to_ask: int = job["requests"]
        self.unanswered: int = job["requests"]
        self.latencies: list[float] = []
        self.firsts: list[float] = []
        self.wrong = 0
        self.example = ""
        self.streams: list[bytes] = []
        self.body = 0
        self.done = done

    def take(self) -> bool:
        """Whether there is another request to send."""
        if self.to_ask == 0:
            return False
        self.to_ask -= 1
        return True

    def answered(self, latency: float, first: float | None, answer: bytes) -> None:
        self.latencies.append(latency)
        self.body = len(answer) - answer.find(b"\r\n\r\n") - 4
        if first is not None:
            self.firsts.append(first)
        if self.first:
            self.streams.append(answer)
        if self.expect not in answer or not answer.startswith(b"HTTP/1.1 200"):
            self.wrong += 1
            self.example = answer[-2000:].decode(errors="replace")
        self.unanswered -= 1
        if self.unanswered == 0:
            self.done()

    def lost(self, error: Exception | None) -> None:
        self.wrong += 1
        self.example = f"the connection was cut: {error}"
        self.unanswered -= 1
        if self.unanswered == 0:
            self.done()


def _length(head: bytes) -> int | None:
    at = head.lower().find(b"content-length:")
    return None if at < 0 else int(head[at + 15 : (head + b"\r\n").find(b"\r\n", at)])


async def perform(settings: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    job = Job(settings, done.set)
    kind = Stream if job.first else Connection
    connections = [
        (await loop.create_connection(lambda: kind(job), HOST, settings["port"]))[1]
        for _ in range(settings["connections"])
    ]
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    for connection in connections:
        connection.ask()
    try:
        async with asyncio.timeout(settings["seconds"]):
            await done.wait()
    except TimeoutError:
        job.to_ask = 0
    elapsed = time.perf_counter() - began
    gc.enable()
    for connection in connections:
        connection.busy = False
        if connection.transport is not None:
            connection.transport.abort()
    return {
        "elapsed": elapsed,
        "latencies": job.latencies,
        "firsts": job.firsts,
        "wrong": job.wrong,
        "example": job.example,
        "unanswered": job.unanswered,
        "body": job.body,
        "counted": sum(count(stream, settings["count"]) for stream in job.streams) if "count" in settings else 0,
    }


def count(answer: bytes, what: dict[str, str]) -> int:
    """How often `what["text"]` is in those server-sent events of a chunked response that contain `what["event"]`."""
    body = _dechunked(answer)
    event, text = what["event"].encode(), what["text"].encode()
    return sum(part.count(text) for part in body.split(b"\n\n") if event in part)


def _dechunked(answer: bytes) -> bytes:
    at = answer.index(b"\r\n\r\n") + 4
    parts: list[bytes] = []
    while True:
        line_end = answer.index(b"\r\n", at)
        size = int(answer[at:line_end], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(answer[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2


def main() -> None:
    if sys.platform == "win32":
        loop = asyncio.new_event_loop()
    else:
        import uvloop

        loop = uvloop.new_event_loop()
    for line in sys.stdin:
        print(json.dumps(loop.run_until_complete(perform(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
