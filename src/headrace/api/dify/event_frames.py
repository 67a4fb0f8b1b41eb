"""A run's records as server-sent events.

Most records of a stream are pieces of one text, whose frames differ in nothing but the piece and the position. From the
third piece on such a frame is made from those two and a template, at a tenth of the cost of folding its record. The
fold receives these pieces later, as one: before the next record that is something else.
"""

from __future__ import annotations

from headrace.api.dify.run_events import RunEvents, StreamEvent
from headrace.api.http.responses import encode
from headrace.kernel.events import Delta, Record
from headrace.kernel.graph import Path, node_of

_TEXT_FIELDS = {"text", "answer", "reasoning"}  # one of which the data of an event has


class EventFrames:
    """Encodes what `events` makes of each record. With `ids` the frames have the positions of the events."""

    def __init__(self, events: RunEvents, *, ids: bool) -> None:
        self._events = events
        self._ids = ids
        self._last: Delta | None = None  # the last record that was folded, if it is text
        self._length = -1  # of the text before the next piece of it; negative: its frame is not made from the template
        self._pieces: list[str] = []  # the text that `events` has not received
        self._written_at = 0.0  # when the last of them arrived that is not white space
        self._around: dict[tuple[Path, str], tuple[bytes, bytes]] = {}  # what a frame has before and after the text
        self._head = self._tail = self._end = b""
        self._beyond = 0  # characters, in the position

    def encode(self, record: Record) -> bytes:
        """The frames of a record, which may be none."""
        event, last = record.event, self._last
        if (
            record.seq is None
            and type(event) is Delta
            and event.at == self._length
            and last is not None
            and event.path == last.path
            and event.name == last.name
            and event.text
        ):
            text = event.text
            self._pieces.append(text)
            self._length += len(text)
            if not text.isspace():
                self._written_at = record.at
            if not self._ids:
                return b"%b%b%b" % (self._head, encode(text), self._tail)
            self._beyond += len(text)
            return b"%b%b%b%d%b" % (self._head, encode(text), self._tail, self._beyond, self._end)
        if self._pieces:
            assert last is not None
            text, self._pieces = "".join(self._pieces), []
            missing_part = Delta(last.path, last.name, self._length - len(text), text)
            self._events.feed(Record(record.run, None, self._written_at, missing_part))
        events = self._events.feed(record)
        self._length, self._last = -1, event if type(event) is Delta else None
        if self._last is not None and last is not None and record.seq is None and len(events) == 1:
            self._prepare(self._last, last, events[0])
        frames: list[bytes] = []
        for each in events:
            if self._ids and each.event != "error":  # without an id, a reader that resumes gets the error again
                frames.append(b"data: %b\nid: %b\n\n" % (self._events.encode(each), str(each.position).encode()))
            else:
                frames.append(b"data: %b\n\n" % self._events.encode(each))
        return b"".join(frames)

    def _prepare(self, delta: Delta, last: Delta, event: StreamEvent) -> None:
        """The next piece of this text can be made from a template, if all of this one was sent. Where several texts
        take turns, that is not worth it."""
        if (delta.path, delta.name) != (last.path, last.name) or len(self._events.texts) != 1:
            return
        text, selector, level = self._events.texts[0]
        if text != delta.text or selector != (node_of(delta.path), delta.name):
            return
        position = event.position
        self._beyond = dict(position.inside).get(level, 0) if level else position.sent
        if not self._beyond or text.isspace():  # of a chat, the time of the first text is known after this piece
            return
        around = self._around.get((delta.path, delta.name))
        if around is None:
            (field,) = _TEXT_FIELDS & event.data.keys()
            full, empty = (
                self._events.encode(event),
                self._events.encode(event._replace(data={**event.data, field: ""})),
            )
            quote = 0
            while full[quote] == empty[quote]:
                quote += 1
            around = self._around[delta.path, delta.name] = b"data: %b" % empty[: quote - 1], empty[quote + 1 :]
        self._head, self._tail = around
        if self._ids:
            start, mark, rest = str(position).partition(f"+{level}:" if level else ":")
            self._tail += b"\nid: %b" % (start + mark).encode()
            self._end = b"%b\n\n" % rest.lstrip("0123456789").encode()
        else:
            self._tail += b"\n\n"
        self._length = delta.at + len(text)
