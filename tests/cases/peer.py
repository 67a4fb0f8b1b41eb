"""What the cases talk to: one HTTP server on a free port, an echo and a chat model of OpenAI's protocol."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from docx import Document

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
# The last message holds the key: what the model answers, a chunk each.
SCRIPTS = {
    "EMOJI": ["party \ud83c", "\udf89 time"],
    "GATED": ["first ", "second"],
    "OPTIONAL": ['{"city": "Rome"}'],
    "Answer as asked.": ['{"a": "b"\n"c": "d"}'],
}


def word(text: str) -> bytes:
    document, file = Document(), io.BytesIO()
    document.add_paragraph(text)
    document.save(file)
    return file.getvalue()


FILES: dict[str, tuple[dict[str, str], bytes]] = {
    "/named": (
        {"Content-Type": "application/octet-stream", "Content-Disposition": 'attachment; filename="report.docx"'},
        word("Hello from Word"),
    ),
    "/typed": ({"Content-Type": WORD}, word("Hello from Word")),
    "/sjis.csv": (
        {"Content-Type": "text/plain"},
        "商品名と値段の一覧です。りんごは百円、みかんは五十円です。".encode("shift_jis"),
    ),
}


class Peer:
    """Serves until the block is left. `url`; `gate` lets a GATED stream go on after its first chunk."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Peer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self.gate

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

            def do_GET(self) -> None:
                self._file(b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path.endswith("/chat/completions"):
                    self._complete(json.loads(body))
                else:
                    self._file(body)

            def _head(self, headers: dict[str, str]) -> None:
                self.send_response(200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def _file(self, received: bytes) -> None:
                echo = {"Content-Type": "text/plain; charset=utf-8"}, received
                headers, body = FILES.get(self.path.partition("?")[0], echo)
                self._head({**headers, "Content-Length": str(len(body))})
                self.wfile.write(body)

            def _complete(self, request: dict[str, Any]) -> None:
                last = request["messages"][-1]["content"]
                texts = next((script for mark, script in SCRIPTS.items() if mark in last), ["Fine ", "answer"])
                head = {"id": "1", "model": "m"}
                if not request.get("stream"):
                    message = {"role": "assistant", "content": "".join(texts)}
                    choice = {"index": 0, "message": message, "finish_reason": "stop"}
                    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
                    answer = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
                    self._head({"Content-Type": "application/json"})
                    self.wfile.write(json.dumps(answer).encode())
                    return
                self._head({"Content-Type": "text/event-stream"})
                for number, text in enumerate(texts):
                    if number and "GATED" in last and not gate.wait(120):
                        return  # a stream that is cut off fails the case
                    self._chunk({**head, "choices": [{"index": 0, "delta": {"content": text}}]})
                self._chunk({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                self.wfile.write(b"data: [DONE]\n\n")

            def _chunk(self, chunk: dict[str, Any]) -> None:
                self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                self.wfile.flush()

        return Handler
