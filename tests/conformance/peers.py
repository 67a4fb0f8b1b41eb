"""The two local servers that the recorded workflows talk to, and the recordings as they are with them.

echo   what http-request nodes call: /echo, /status/CODE, /slow/SECONDS, /x.png
model  an OpenAI-compatible chat endpoint, /v1/chat/completions: answers "Echo: " and the last user
       message, one chunk a word, MODEL_DELAY seconds apart (0.02), then the usage: prompt tokens are
       the words of all messages, completion tokens the words of the answer. A message that holds
       FAILLLM is refused with 400 "scripted model failure".
"""

import base64
import json
import os
import pathlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from tests.background import serving

RECORDED_ECHO = b"127.0.0.1:8900"

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ECHOED = {"content-type", "x-test", "authorization", "user-agent", "accept"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body, content_type="application/json", status=200):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def read(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class Echo(Handler):
    def handle_any(self):
        body, url = self.read(), urlsplit(self.path)
        if url.path == "/echo":
            echoed = {k: v for k, v in self.headers.items() if k.lower() in ECHOED}
            self.answer(
                json.dumps(
                    {
                        "method": self.command,
                        "path": url.path,
                        "query": dict(parse_qsl(url.query, keep_blank_values=True)),
                        "body": body.decode("utf-8", "replace"),
                        "headers": echoed,
                    }
                ).encode()
            )
        elif url.path.startswith("/status/"):
            code = int(url.path.rsplit("/", 1)[1])
            self.answer(f"status {code}\n".encode(), "text/plain; charset=utf-8", code)
        elif url.path.startswith("/slow/"):
            time.sleep(float(url.path.rsplit("/", 1)[1]))
            self.answer(b"slept", "text/plain; charset=utf-8")
        elif url.path == "/x.png":
            self.answer(PNG, "image/png")
        else:
            self.answer(b"not found", "text/plain", 404)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any


class Model(Handler):
    delay = float(os.environ.get("MODEL_DELAY", "0.02"))

    def do_GET(self):
        self.answer(json.dumps({"object": "list", "data": [{"id": "fake-llm", "object": "model"}]}).encode())

    def do_POST(self):
        request_body = json.loads(self.read())
        texts = [self.text(message["content"]) for message in request_body["messages"]]
        if "FAILLLM" in texts[-1]:
            return self.answer(
                json.dumps({"error": {"message": "scripted model failure", "type": "invalid_request_error"}}).encode(),
                status=400,
            )
        words = ("Echo: " + texts[-1]).split(" ")
        words = [word if i == 0 else " " + word for i, word in enumerate(words)]
        prompt = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}
        head = {"id": "chatcmpl-1", "created": int(time.time()), "model": request_body["model"]}
        if not request_body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "".join(words)}, "finish_reason": "stop"}
            return self.answer(
                json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
            )
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        head["object"] = "chat.completion.chunk"
        for word in words:
            self.event(
                {
                    **head,
                    "choices": [{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}],
                }
            )
            time.sleep(self.delay)
        self.event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (request_body.get("stream_options") or {}).get("include_usage"):
            self.event({**head, "choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    @staticmethod
    def text(content):
        return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or [])

    def event(self, data):
        self.chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Peers(NamedTuple):
    """HOST:PORT of each."""

    echo: str
    model: str

    @property
    def environ(self) -> dict[str, str]:
        """What a server that talks to them is started with."""
        return {
            "OPENAI_API_COMPATIBLE_BASE_URL": f"http://{self.model}/v1",
            "OPENAI_API_COMPATIBLE_API_KEY": "none",
            "HEADRACE_EGRESS_ALLOW": self.echo,
        }

    def rewritten(self, case: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
        """A copy of a recorded case in `folder`, with the address that the echo server was recorded at replaced by the
        one it has here."""
        copy = folder / case.name
        copy.mkdir(parents=True)
        for file in case.iterdir():
            (copy / file.name).write_bytes(file.read_bytes().replace(RECORDED_ECHO, self.echo.encode()))
        return copy


@contextmanager
def started() -> Iterator[Peers]:
    """Both, each on a free port, until the block is left."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (Echo, Model)]
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(serving(server))
        yield Peers(*(f"127.0.0.1:{server.server_port}" for server in servers))
