"""A peer whose calls are side effects: it counts them, and can hold them up."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.background import serving
from tests.cli.flows import field, flow


class Counting(ThreadingHTTPServer):
    """Answers POST /hit/N with N, or `no` if that is to fail; the first `free` calls at once, the others once `gate` is
    open. `call_waiting` is set when a call waits there."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, free: int) -> None:
        self.hits: Counter[str] = Counter()
        self.gate = threading.Event()
        self.call_waiting = threading.Event()
        self.failing: set[str] = set()  # of those it answers `no`
        self._free = free
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def hit(self, name: str) -> None:
        with self._lock:
            self.hits[name] += 1
            self._free -= 1
            is_full = self._free < 0
        if is_full:
            self.call_waiting.set()
            self.gate.wait(120)

    def hold(self) -> None:
        """Holds up the calls from now on."""
        self._free = 0

    def workflow(self, path: Path) -> Path:
        """A workflow whose one node calls the peer with the input `n`, and ends with what it answered."""
        call: dict[str, Any] = {
            "id": "call",
            "type": "http-request",
            "title": "Call",
            "method": "post",
            "url": f"http://{self.address}/hit/{{{{#start.n#}}}}",
            "headers": "",
            "params": "",
            "authorization": {"type": "no-auth"},
            "body": {"type": "none", "data": []},
        }
        return flow(path, call, variables=[field("n", "number", required=True)], outputs={"n": ("call", "body")})


class _Answer(BaseHTTPRequestHandler):
    server: Counting

    def do_POST(self) -> None:
        name = self.path.removeprefix("/hit/")
        self.server.hit(name)
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            text = "no" if name in self.server.failing else name
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())
        except OSError:
            self.close_connection = True  # the caller was killed

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def counting(free: int = 10**9) -> Iterator[Counting]:
    server = Counting(free)
    with serving(server):
        try:
            yield server
        finally:
            server.gate.set()
