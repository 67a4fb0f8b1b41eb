"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as model providers send them.

Every event is a JSON object in `data:`. Some providers deviate from the standard, which is accepted: a JSON object
without `data:`, events separated by a single newline, a JSON object over several data lines.
"""

from __future__ import annotations

from json import JSONDecodeError
from typing import Any, cast

from headrace.adapters.models.failures import CONNECTION, Failure
from headrace.content.python_json import load_json

MAX_EVENT = 16 * 1024 * 1024  # bytes; answers may contain images
_SHOWN = 200


class Events:
    """Parses bytes, split anywhere, into JSON objects. `done`: the provider sent [DONE]."""

    __slots__ = ("_cut", "_data_lines", "_data_size", "_partial", "_size", "done")

    def __init__(self) -> None:
        self.done = False
        self._partial: list[bytes] = []  # a line whose end has not arrived
        self._size = 0
        self._cut = False  # the last chunk ended with a carriage return: a newline may follow
        self._data_lines: list[bytes] = []  # data lines that are not JSON by themselves
        self._data_size = 0

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The events that are complete now. Failure if one is malformed or too large."""
        if b"\r" in chunk or self._cut:
            chunk = self._newlines(chunk)
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        lines = chunk.split(b"\n")
        if self._partial:
            self._partial.append(lines[0])
            lines[0] = b"".join(self._partial)
            self._partial.clear()
            self._size = 0
        if rest := lines.pop():
            self._keep(rest)
        events: list[dict[str, Any]] = []
        for line in lines:
            if line[:5] == b"data:":
                self._data(line[5:], events)
            elif line:
                self._other(line, events)
            elif self._data_lines:
                self._join(events)
        return events

    def end(self) -> list[dict[str, Any]]:
        """The rest, if no newline follows it."""
        events = self.feed(b"\n") if self._partial else []
        if self._data_lines:
            self._join(events)
        return events

    def _newlines(self, chunk: bytes) -> bytes:
        """The chunk with every line ending as a newline."""
        if self._cut:
            chunk = b"\r" + chunk
        self._cut = chunk.endswith(b"\r")
        if self._cut:
            chunk = chunk[:-1]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, piece: bytes) -> None:
        self._partial.append(piece)
        self._size += len(piece)
        if self._size > MAX_EVENT:
            raise _too_large()

    def _other(self, line: bytes, events: list[dict[str, Any]]) -> None:
        """A comment, another field, a byte order mark, or an object without its `data:`."""
        line = line.removeprefix(b"\xef\xbb\xbf")
        if line[:5] == b"data:":
            self._data(line[5:], events)
        elif line[:1] == b"{":
            self._data(line, events)

    def _data(self, data: bytes, events: list[dict[str, Any]]) -> None:
        if self._data_lines:
            self._hold(data)
            return
        try:
            value: Any = load_json(data, mended=False)
        except JSONDecodeError:
            text = data.strip()
            if text == b"[DONE]":
                self.done = True
            elif text:
                self._hold(data)
            return
        if isinstance(value, dict):
            events.append(cast("dict[str, Any]", value))

    def _hold(self, data: bytes) -> None:
        """Keeps a data line until the event's others have arrived."""
        self._data_lines.append(data)
        self._data_size += len(data)
        if self._data_size > MAX_EVENT:
            raise _too_large()

    def _join(self, events: list[dict[str, Any]]) -> None:
        data = b"\n".join(self._data_lines)
        self._data_lines.clear()
        self._data_size = 0
        try:
            value: Any = load_json(data, mended=False)
        except JSONDecodeError:
            excerpt = data[:_SHOWN].decode("utf-8", "replace").strip()
            raise Failure(f"The provider sent an event that is not valid JSON: {excerpt}", CONNECTION) from None
        if isinstance(value, dict):
            events.append(cast("dict[str, Any]", value))


def _too_large() -> Failure:
    return Failure(f"The provider sent an event of more than {MAX_EVENT} bytes.", CONNECTION)
