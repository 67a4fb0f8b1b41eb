"""A server like Dify that cuts its stream, with each way in which HTTP can frame the response's body."""

from __future__ import annotations

import socket
import socketserver
import threading
from types import TracebackType
from typing import Any

FRAMES = ("chunked", "content-length", "until-closed")
_JSON = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"


class Framed(socketserver.ThreadingTCPServer):
    """Sends `stream` up to `cut`, framed as `frame` says, and drops the connection; `detail` is the run's. `url`.

    `reset`: the connection is reset (RST) rather than closed (FIN).
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, stream: bytes, detail: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stream, self.detail = stream, detail
        self.frame, self.cut, self.reset = FRAMES[0], 0, False
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Framed:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()

    def cut_response(self) -> bytes:
        """The response up to the cut."""
        data = self.stream[: self.cut]
        if self.frame == "until-closed":
            return _STREAM + b"\r\n" + data
        if self.frame == "content-length":
            return _STREAM + b"Content-Length: %d\r\n\r\n" % len(self.stream) + data
        chunks = [data[start : start + 1000] for start in range(0, len(data), 1000)]
        complete = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        last = b"0\r\n\r\n" if len(data) == len(self.stream) else b""
        return _STREAM + b"Transfer-Encoding: chunked\r\n\r\n" + complete + last


class _Handler(socketserver.StreamRequestHandler):
    server: Framed

    def handle(self) -> None:
        request_line = self.rfile.readline().split()
        length = 0
        while (line := self.rfile.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        self.rfile.read(length)
        if request_line[1].startswith(b"/v1/workflows/run/"):
            self.wfile.write(_JSON % (b"200 OK", len(self.server.detail), self.server.detail))
        elif request_line[1] == b"/v1/workflows/run":
            self.wfile.write(self.server.cut_response())
            if self.server.reset:
                linger: Any = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, 0 seconds
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            self.wfile.write(_JSON % (b"404 Not Found", 2, b"{}"))
