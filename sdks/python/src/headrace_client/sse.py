"""Server-sent events, decoded as bytes come, however they are cut."""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_LARGEST = 128 * 1024 * 1024


class Block(NamedTuple):
    """What stands between two empty lines. `data` is None where there was none."""

    event: str | None
    data: bytes | None
    id: str | None


class Decoder:
    """Takes bytes in; gives the blocks that are whole. Lines may end in LF, CRLF or CR.

    What a stream ends with that no empty line follows is no block: whatever is between may have ended it in order.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0  # of the rest, bytes in which no block ends
        self._begun = False
        self._return = False  # the last byte was a CR, and stands for a line's end already

    def feed(self, chunk: bytes) -> list[Block]:
        """The blocks that end in this chunk. ValueError for a block without an end."""
        if self._return and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._return = False
        if b"\r" in chunk:
            self._return = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        rest = self._rest
        rest += chunk
        if not self._begun:
            if len(rest) < len(_BOM) and _BOM.startswith(bytes(rest)):
                return []
            self._begun = True
            if rest.startswith(_BOM):
                del rest[: len(_BOM)]
        end = rest.rfind(b"\n\n", max(0, self._seen - 1))
        if end < 0:
            self._seen = len(rest)
            if len(rest) > _LARGEST:
                raise ValueError(f"an event of more than {_LARGEST // 1024 // 1024} MB")
            return []
        whole = bytes(rest[:end])
        del rest[: end + 2]
        self._seen = len(rest)
        return [_block(each) for each in whole.split(b"\n\n") if each]


def _block(told: bytes) -> Block:
    if told.startswith(b"data: ") and b"\n" not in told:  # nearly all are
        return Block(None, told[6:], None)
    event = name = None
    data: list[bytes] = []
    for line in told.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            event = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            name = value.decode("utf-8", "replace")
    return Block(event, b"\n".join(data) if data else None, name)
