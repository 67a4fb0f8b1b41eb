"""The server that http-request nodes talk to: it answers what it was asked, as text, JSON or bytes."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

PLACEHOLDER = "__multipart_placeholder__"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        answer = {
            "method": self.command,
            "path": path,
            "query": parse_qsl(query, keep_blank_values=True),
            "headers": {name: value for name, value in self.headers.items() if name.lower().startswith("x-")},
            "type": (self.headers.get("Content-Type") or "").partition(";")[0],
            "body": _body(self.headers.get("Content-Type") or "", body),
        }
        kind = "application/json" if self.path.startswith("/json") else "text/plain; charset=utf-8"
        content = json.dumps(answer, ensure_ascii=False, sort_keys=True).encode()
        self.send_response(404 if "/1" in self.path else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _answer


def _body(kind: str, content: bytes) -> Any:
    """A multipart body's parts (but the placeholder, see docs/compatibility.md), and a JSON body's value: what stands
    between is each client's own."""
    if kind.startswith("application/json"):
        with contextlib.suppress(ValueError):
            return json.loads(content)
    if not kind.startswith("multipart/"):
        return content.decode("utf-8", "backslashreplace")
    message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + content)
    parts = [part for part in message.get_payload() if not isinstance(part, str)]
    form_parts = [
        (part.get_param("name", header="content-disposition"), part.get_payload(decode=True)) for part in parts
    ]
    return [(name, value.decode("utf-8", "backslashreplace")) for name, value in form_parts if name != PLACEHOLDER]


@contextmanager
def echo_server() -> Iterator[str]:
    """Serves until the block is left; the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
