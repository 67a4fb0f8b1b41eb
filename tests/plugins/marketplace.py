"""A stand-in of Dify's marketplace: packages of a folder, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.background import serving

Answers = Mapping[str, tuple[int, bytes]]


@contextmanager
def marketplace(answers: Answers) -> Iterator[str]:
    """Answers GET requests by their path with a status and a body; 404 for others. Gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b"{}"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


def described(latest: object) -> tuple[int, bytes]:
    return 200, json.dumps({"code": 0, "data": {"plugin": {"latest_package_identifier": latest}}}).encode()
