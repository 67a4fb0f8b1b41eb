"""A chat model that writes until it is told to finish: a test on a busy machine finds it writing, too."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.background import serving

PROVIDER = "openai_api_compatible"
_PAUSE = 0.02  # seconds between two pieces


class SlowModel(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.finish = threading.Event()
        url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.environ = {f"{PROVIDER.upper()}_API_KEY": "none", f"{PROVIDER.upper()}_BASE_URL": url}


class _Handler(BaseHTTPRequestHandler):
    server: SlowModel

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for piece in ("【示範模型】", "沒有呼叫", "任何模型："):
                self._write(piece)
            while not self.server.finish.wait(_PAUSE):
                self._write("很長的提示。")
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.close_connection = True  # the run was stopped, or its server killed

    def _write(self, piece: str) -> None:
        chunk = {"choices": [{"index": 0, "delta": {"content": piece}}]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@contextmanager
def slow_model() -> Iterator[SlowModel]:
    """Serves until the block is left."""
    with serving(model := SlowModel()):
        yield model
        model.finish.set()
