"""An API called in the test's own process: no socket, no client that would straighten out what a test sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message

from tests.native import conforming


@dataclass(frozen=True)
class Answer:
    """What came back. `headers` by lower-case name; of those that came twice, all, joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Caller:
    """Calls an ASGI application, by default with this key."""

    app: ASGIApp
    key: str | None = None

    async def __call__(
        self,
        method: str,
        target: str,
        *,
        json: Any = None,
        body: bytes = b"",
        headers: Mapping[str, str | bytes] | None = None,
        leave_after: float | None = None,
    ) -> Answer:
        """The answer to one request; `target` is path and query as they stand on the wire. A client that is to leave
        does so after that many seconds, and is content with what came until then."""
        all_headers: dict[str, str | bytes] = {"host": "test"}
        if self.key is not None:
            all_headers["authorization"] = f"Bearer {self.key}"
        if json is not None:
            body, all_headers["content-type"] = _dumped(json), "application/json"
        all_headers |= {name.lower(): value for name, value in (headers or {}).items()}
        path, _, query = target.partition("?")
        raw = path.encode("utf-8", "surrogatepass")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(raw).decode("utf-8", "replace"),
            "raw_path": raw,
            "query_string": query.encode("utf-8", "surrogatepass"),
            "root_path": "",
            "headers": [
                (name.encode("latin-1"), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
                for name, value in all_headers.items()
            ],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
        }
        sent = False
        gone = asyncio.Event()
        detail: list[Message] = []

        async def receive() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            detail.append(message)

        calling = asyncio.ensure_future(self.app(scope, receive, send))
        done, _ = await asyncio.wait((calling,), timeout=leave_after)
        if not done:
            gone.set()
        await calling
        start = detail[0]
        answered: dict[str, str] = {}
        for name, value in start["headers"]:
            text = value.decode("latin-1")
            key = name.decode("latin-1").lower()
            answered[key] = f"{answered[key]}, {text}" if key in answered else text
        answer = Answer(start["status"], answered, b"".join(item.get("body", b"") for item in detail[1:]))
        if done and method != "HEAD" and answer.body:
            conforming.check(method, path, answer.status, answered.get("content-type", ""), answer.body)
        return answer


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()
