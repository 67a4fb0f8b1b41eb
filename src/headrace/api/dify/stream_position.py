"""How far the reader of a stream has come, and the SSE id that says so.

Every event carries the position that its reader has reached: a sequence number, and how many characters
were sent beyond what the journal up to that number holds. A reader that comes back with a position gets everything
after it and nothing twice: records up to the number are folded without sending, and that many characters are skipped.
Rounds that run in parallel have no order among them, so characters are counted by round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from headrace.errors import InvalidParam

_POSITION = re.compile(r"(\d{1,18})(?::(\d{1,18}))?((?:\+\d{1,18}:\d{1,18})*)")


class StreamPosition(NamedTuple):
    """How far a reader has come: all records up to `seq`, and `sent` characters beyond them. `inside` counts those of
    rounds, as (the number that the round began with, characters), and the events of a record that ends a container, as
    (its number, events)."""

    seq: int = 0
    sent: int = 0
    inside: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        rounds = "".join(f"+{number}:{sent}" for number, sent in self.inside)
        return f"{self.seq}:{self.sent}{rounds}" if self.sent else f"{self.seq}{rounds}"

    @classmethod
    def beyond(cls, seq: int, sent: Mapping[int, int]) -> StreamPosition:
        """The position past a record and so many characters of each level (see `graph_response.Said`)."""
        return cls(seq, sent.get(0, 0), tuple(item for item in sorted(sent.items()) if item[0]))

    @classmethod
    def parse(cls, text: str) -> StreamPosition:
        """The position that an SSE id names. InvalidParam where it is malformed."""
        match = _POSITION.fullmatch(text.strip()) if text.isascii() else None
        if match is None:
            raise InvalidParam(f"Last-Event-ID must be an id of this stream, like 12 or 12:34, not {text[:50]!r}")
        pairs = (pair.split(":") for pair in match[3].split("+")[1:])
        return cls(int(match[1]), int(match[2] or 0), tuple((int(number), int(sent)) for number, sent in pairs))


START = StreamPosition()
