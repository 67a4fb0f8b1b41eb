"""The messages between the host and a plugin, as Dify's plugin SDK has them: JSON objects, one a line.

A plugin reads requests from its standard input and writes events to its standard output. A request opens a session; the
events of a session have its id, so one process serves many at once:

    stream    a part of the result
    invoke    a call back to the host, which is answered by frames of the same session (`reply`)
    error     the request failed; `end` follows
    end       nothing more comes
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, cast

import orjson

from headrace.content.python_json import load_json
from headrace.content.surrogates import mend
from headrace.frozen import frozen
from headrace.values import Value

LONGEST_LINE = 16 * 1024 * 1024  # bytes; Dify's limit is 5 MiB
_SESSION_ID = re.compile(rb'"session_id"\s*:\s*"([^"\\]{1,100})"')

Reply: TypeAlias = Literal["response", "error", "end"]


@frozen
class SessionEvent:
    """An event of a session. `type` is stream, invoke, error or end; `size` is that of its line."""

    session: str
    type: str
    data: Mapping[str, Value]
    size: int = 0


@frozen
class Heartbeat:
    """The plugin is alive; the first one means that it is ready."""


@frozen
class Log:
    """A line for the log: what the plugin logs or prints, or a problem of its output. `level` is a level's name."""

    level: str
    message: str


Output: TypeAlias = SessionEvent | Heartbeat | Log


def request(session: str, data: Mapping[str, Value], app: str | None = None) -> bytes:
    """The line that opens a session."""
    frame: dict[str, Value] = {
        "session_id": session,
        "conversation_id": None,
        "message_id": None,
        "app_id": app or None,
        "endpoint_id": None,
        "context": {"credentials": {"tool_credentials": {}}},
        "event": "request",
        "data": data,
    }
    return _line(frame)


def reply(session: str, call: str, event: Reply, data: Mapping[str, Value] | None = None, message: str = "") -> bytes:
    """A line that answers the call back with the id `call`."""
    body = {"backwards_request_id": call, "event": event, "message": message, "data": data}
    return _line({"session_id": session, "event": "backwards_response", "data": body})


def _line(frame: Mapping[str, Value]) -> bytes:
    """A frame as a line. ValueError if it contains a value that JSON does not have."""
    try:
        return orjson.dumps(frame, option=orjson.OPT_NON_STR_KEYS) + b"\n"
    except TypeError:  # integers beyond 64 bits, hundreds of levels, half surrogate pairs
        import json

        try:
            return json.dumps(mend(frame)).encode() + b"\n"
        except (TypeError, RecursionError) as error:
            raise ValueError(f"cannot be sent to a plugin: {error}") from error


class Lines:
    """Splits a stream into lines: (line, size), without the empty ones. Of a line longer than `limit` only the
    beginning is kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """The lines that are complete now."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._add(end)
            line, size = b"".join(self._parts), self._size
            self._parts, self._size = [], 0
            if line and not line.isspace():
                yield line, size
        self._add(rest)

    def _add(self, part: bytes) -> None:
        room = self._limit - self._size
        self._size += len(part)
        if part and room > 0:
            self._parts.append(part[:room])


def output_of(line: bytes, size: int) -> Output | None:
    """The event of a line that a plugin wrote; None for one that says nothing, such as the manifest at the beginning.
    A session whose line is too long fails, because a part of its result is lost."""
    if size <= len(line):
        return _parsed(line)
    message = f"The plugin sent a line of {size} bytes, which is longer than {len(line)}."
    session = _SESSION_ID.search(line[:300])
    return _failure(session[1].decode(errors="replace"), message) if session else Log("WARNING", message)


def _failure(session: str, message: str) -> SessionEvent:
    return SessionEvent(session, "error", {"error_type": "PluginOutputError", "message": message})


def _parsed(line: bytes) -> Output | None:
    try:
        frame: Any = load_json(line)
    except ValueError:
        return Log("INFO", line.decode(errors="replace"))  # a print of the plugin's
    if not isinstance(frame, dict):
        return Log("INFO", line.decode(errors="replace"))
    fields = cast("dict[str, Any]", frame)
    data: Any = fields.get("data")
    content = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    match fields.get("event"):
        case "heartbeat":
            return Heartbeat()
        case "session":
            return _of_session(fields.get("session_id"), content, len(line))
        case "log":
            return Log(str(content.get("level", "INFO")), str(content.get("message", "")))
        case "error":
            return Log("ERROR", str(content.get("error", data)))
        case None:
            return None
        case other:
            return Log("WARNING", f"an event of an unknown type: {str(other)[:100]}")


def _of_session(session: Any, content: Mapping[str, Any], size: int) -> Output:
    type_, data = content.get("type"), content.get("data")
    if not isinstance(session, str) or not isinstance(type_, str):
        return Log("WARNING", "a session's event without a session or a type")
    if not isinstance(data, dict):
        if type_ == "stream":
            return _failure(session, "The plugin sent a result that is not an object.")
        data = {}
    return SessionEvent(session, type_, cast("dict[str, Value]", data), size)
