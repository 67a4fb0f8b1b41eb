"""A decoder of server-sent events; the bytes may be split anywhere."""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_MAX_BLOCK_SIZE = 128 * 1024 * 1024


class Block(NamedTuple):
    """The fields between two empty lines. `data` is None if there was none."""

    event: str | None
    data: bytes | None
    id: str | None


class Decoder:
    """Turns bytes into complete blocks. Lines may end in LF, CRLF or CR.

    A block that no empty line ends is dropped when the stream ends: a proxy may have cut it and closed the response in
    an orderly way.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer in which no block ends
        self._started = False
        self._ends_with_cr = False  # the last byte was a CR, which has already ended a line

    def feed(self, chunk: bytes) -> list[Block]:
        """The blocks that end in this chunk. ValueError if a block is too large."""
        if self._ends_with_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._ends_with_cr = False
        if b"\r" in chunk:
            self._ends_with_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer = self._buffer
        if self._started and not buffer and chunk.endswith(b"\n\n"):  # the usual case: whole blocks
            return [_parse_block(text) for text in chunk[:-2].split(b"\n\n") if text]
        buffer += chunk
        if not self._started:
            if len(buffer) < len(_BOM) and _BOM.startswith(bytes(buffer)):
                return []
            self._started = True
            if buffer.startswith(_BOM):
                del buffer[: len(_BOM)]
        end = buffer.rfind(b"\n\n", max(0, self._searched - 1))
        if end < 0:
            self._searched = len(buffer)
            if len(buffer) > _MAX_BLOCK_SIZE:
                raise ValueError(f"an event of more than {_MAX_BLOCK_SIZE // 1024 // 1024} MB")
            return []
        whole = bytes(buffer[:end])
        del buffer[: end + 2]
        self._searched = len(buffer)
        return [_parse_block(text) for text in whole.split(b"\n\n") if text]


def _parse_block(text: bytes) -> Block:
    if text.count(b"\n") == 1:  # the usual cases: an id and data, or data only
        first, second = text.split(b"\n")
        if first.startswith(b"id: ") and second.startswith(b"data: ") and b"\0" not in first:
            return Block(None, second[6:], first[4:].decode("utf-8", "replace"))
    elif text.startswith(b"data: ") and b"\n" not in text:
        return Block(None, text[6:], None)
    event = event_id = None
    data: list[bytes] = []
    for line in text.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            event = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            event_id = value.decode("utf-8", "replace")
    return Block(event, b"\n".join(data) if data else None, event_id)
