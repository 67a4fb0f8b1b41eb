"""Frames of streamed text from a template: byte for byte as those of the events that the records are folded into."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.dify.event_frames import EventFrames
from headrace.api.dify.run_events import START, RunEvents, StreamPosition
from headrace.api.dify.runs import events_for
from headrace.kernel.events import (
    REASONING,
    Delta,
    Event,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunQueued,
    RunStarted,
)
from headrace.kernel.response import ResponseStream
from headrace.node import Flow
from tests.api import test_resume_rounds
from tests.api.test_chat_events import flow
from tests.api.test_resume import FLOW, RUN, Story

FLOWS = [FLOW, flow("advanced-chat"), flow("chat"), flow("agent-chat")]
# what JSON escapes, what UTF-8 cannot have, and the white space that counts as no text
_TEXT = st.text(st.sampled_from('ab "\\\n\x00\x7f\x85\u2028é漢🚀\ud83d\ude00'), min_size=1, max_size=5)
_SAY = st.tuples(st.sampled_from(["say a"] * 4 + ["say b", "think a", "think a"]), st.lists(_TEXT, max_size=5))
_OTHER = st.tuples(st.sampled_from(["flush", "retry a", "crash", "lost", "again"]), st.just(list[str]()))
_MOVES = st.lists(st.one_of(_SAY, _SAY, _OTHER), max_size=12)


class ReasoningStory(Story):
    """A run whose model `a` also reasons. Its reasoning is journaled with the text."""

    def __init__(self) -> None:
        super().__init__()
        self.thought, self.journaled = "", 0

    def think(self, text: str) -> None:
        self.received.append(Record(RUN, None, 0.0, Delta("a", REASONING, len(self.thought), text)))
        self.thought += text

    def note(self, *events: Event) -> None:
        if len(self.thought) > self.journaled:
            self._write(Delta("a", REASONING, self.journaled, self.thought[self.journaled :]))
            self.journaled = len(self.thought)
        super().note(*events)

    def begin(self, path: str) -> None:
        super().begin(path)
        if path == "a":
            self.thought, self.journaled = "", 0


def lived(moves: Sequence[tuple[str, Sequence[str]]]) -> list[Record]:
    """The records of a run, each with a time of its own. The bus may lose a piece of text, or deliver it twice."""
    story = ReasoningStory()
    story.note(RunQueued("app", "v1", "task", "u1", {}, {"user_id": "u1", "query": "?"}), RunStarted())
    story.note(NodeStarted("start"), NodeSucceeded("start", {}), NodeStarted("a"), NodeStarted("b"))
    story.begin("a")
    story.begin("b")
    for move, texts in moves:
        verb, _, path = move.partition(" ")
        for text in texts:
            if verb == "think":
                story.think(text)
            else:
                story.say(path, text)
        if verb == "flush":
            story.note()
        elif verb == "retry":
            story.retry(path)
        elif verb == "crash":
            story.crash()
        elif verb in ("lost", "again") and story.received[-1].seq is None:
            story.received[-1:] = [] if verb == "lost" else story.received[-1:] * 2
    story.end("a")
    story.end("b")
    story.note(NodeStarted("end"), NodeSucceeded("end", {}), RunEnded("succeeded"))
    return [record._replace(at=float(at)) for at, record in enumerate(story.received)]


def folded(events: RunEvents, records: Sequence[Record], *, ids: bool) -> list[bytes]:
    frames: list[bytes] = []
    for record in records:
        frame = b""
        for event in events.feed(record):
            frame += b"data: %b\n" % events.encode(event)
            frame += b"id: %b\n\n" % str(event.position).encode() if ids and event.event != "error" else b"\n"
        frames.append(frame)
    return frames


def compare(tested: Flow, records: Sequence[Record], after: StreamPosition = START) -> None:
    for ids in (False, True):
        frames = EventFrames(events_for(RUN, tested, after), ids=ids)
        assert [frames.encode(record) for record in records] == folded(events_for(RUN, tested, after), records, ids=ids)


@settings(max_examples=150)
@given(_MOVES, st.sampled_from(FLOWS))
def test_a_stream_from_its_beginning(moves: list[tuple[str, list[str]]], tested: Flow) -> None:
    compare(tested, lived(moves))


@settings(max_examples=100)
@given(_MOVES, st.sampled_from(FLOWS), st.data())
def test_a_stream_that_is_resumed_anywhere(
    moves: list[tuple[str, list[str]]], tested: Flow, data: st.DataObject
) -> None:
    records, whole = lived(moves), events_for(RUN, tested)
    sent = [(count, event) for count, record in enumerate(records, 1) for event in whole.feed(record)]
    count, event = data.draw(st.sampled_from(sent))
    received = [record for record in records[:count] if record.seq is not None] + records[count:]
    compare(tested, received, StreamPosition.parse(str(event.position)))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 1, 2]), st.text("012", min_size=1, max_size=3)), max_size=16))
def test_rounds_that_stream_at_the_same_time(moves: list[tuple[int, str]]) -> None:
    compare(test_resume_rounds.FLOW, test_resume_rounds.lived(moves))


@pytest.mark.parametrize("tested", FLOWS)
def test_pieces_of_one_text_are_folded_as_one(tested: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    records = lived([("say a", ["word "] * 500), ("flush", []), ("say a", ["word "] * 500)])
    folded_texts: list[int] = []
    feed = RunEvents.feed

    def count(events: RunEvents, record: Record) -> object:
        if isinstance(record.event, Delta) and record.seq is None:
            folded_texts.append(len(record.event.text))
        return feed(events, record)

    monkeypatch.setattr(RunEvents, "feed", count)
    frames = EventFrames(events_for(RUN, tested), ids=True)
    sent = b"".join(frames.encode(record) for record in records)
    assert sent.count(b'"word "') == 1000
    assert len(folded_texts) == 5
    assert sum(folded_texts) == 5000


FOLDS: list[Callable[[], Callable[[Record], object]]] = [
    lambda: ResponseStream(FLOW.graph).apply,
    lambda: EventFrames(events_for(RUN, FLOW), ids=True).encode,
]


@pytest.mark.parametrize("fold", FOLDS, ids=["text", "frames"])
def test_a_piece_costs_the_same_after_a_long_text(fold: Callable[[], Callable[[Record], object]]) -> None:
    """If the text so far were copied for each piece, those after 4 MB would take a hundred times as long as others."""

    def seconds(before: str) -> float:
        apply = fold()
        for record in lived([])[:6]:
            apply(record)
        for at in range(2):
            apply(Record(RUN, None, 0.0, Delta("a", "text", at * len(before), before)))
        records = [Record(RUN, None, 0.0, Delta("a", "text", 2 * len(before) + 4 * n, "word")) for n in range(3000)]
        begun_at = time.process_time()
        sent = [apply(record) for record in records]
        assert all(sent)
        return time.process_time() - begun_at

    assert seconds("a" * 2_000_000) < 10 * seconds("ab")
