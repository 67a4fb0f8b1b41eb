"""One text: what is streamed, what a blocking call is answered, what the run puts out, and what is kept of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.dify.chat_events import ChatEvents
from headrace.api.dify.chat_responses import AnswerText
from headrace.api.dify.run_events import START, StreamPosition
from headrace.kernel.events import NodeFailed, NodeRetried, NodeSucceeded, Record, RunEnded
from headrace.node import Flow
from headrace.nodes.answer import Answer
from headrace.ports import Message
from headrace.stores.projection import exchange_after, exchange_of
from tests.engine.chats import RUN, chats, run_chat

UNKNOWN = re.compile(r"\w\.(text|r|n|item)\b")  # how an answer node puts out what has no value: by its name


def streamed(chat: Flow, records: Iterable[Record], after: StreamPosition = START) -> list[tuple[str, StreamPosition]]:
    """The texts that a client is told, each with the place past it."""
    frames = ChatEvents(RUN, chat, after)
    stream_frames = [frame for record in records for frame in frames.feed(record)]
    return [(frame.data["answer"], frame.position) for frame in stream_frames if frame.event == "message"]


def spoken(chat: Flow, records: Iterable[Record]) -> str:
    text = AnswerText(chat)
    for record in records:
        text.feed(record)
    return str(text)


def message_of(records: list[Record]) -> Message:
    queued, end = records[0], records[-1].event
    exchange = exchange_of(queued, queued.event)  # pyright: ignore[reportArgumentType]
    assert exchange is not None
    assert isinstance(end, RunEnded)
    return exchange_after(exchange, end, end.status)


@settings(max_examples=100)
@given(chats(), st.data())
def test_the_text_is_one_however_it_is_asked_for(chat: Flow, data: st.DataObject) -> None:
    live_records, journal = asyncio.run(run_chat(chat))
    end = journal[-1].event
    assert isinstance(end, RunEnded)
    text = spoken(chat, journal)
    pieces = streamed(chat, live_records)
    assert "".join(item for item, _ in pieces) == text
    assert message_of(journal).answer == text
    if end.status != "failed":
        assert end.outputs.get("answer", "") == text
    if pieces:  # a reader that is cut off after any of its texts is told the rest
        index: int = data.draw(st.integers(0, len(pieces) - 1))
        rest = streamed(chat, journal, pieces[index][1])
        assert "".join(item for item, _ in [*pieces[: index + 1], *rest]) == text


@settings(max_examples=60)
@given(chats())
def test_every_answer_node_that_ended_has_said_its_text(chat: Flow) -> None:
    """Where nothing fails and nothing is read that is not there, the text is made of theirs. After a failure, in a run
    or in a round, a node that has ended may still have waited for what another was to make; and the variable of a loop
    that runs beside the answer has a value there before the loop has put one out."""
    _, journal = asyncio.run(run_chat(chat))
    end = journal[-1].event
    assert isinstance(end, RunEnded)
    said = [
        str(record.event.outputs["answer"])
        for record in journal
        if isinstance(record.event, NodeSucceeded) and record.event.path.rpartition("/")[2].startswith("answer")
    ]
    failures = end.status == "failed" or any(isinstance(record.event, NodeFailed | NodeRetried) for record in journal)
    reads_loops = any(".n#}}" in node.config.answer for node in chat.nodes.values() if isinstance(node, Answer))
    if not failures and not reads_loops and not any(UNKNOWN.search(text) for text in said):
        assert sorted(spoken(chat, journal)) == sorted("".join(said))


@pytest.mark.parametrize("name", ["text", "said"])
def test_a_failed_run_keeps_what_it_said(name: str) -> None:
    """Dify's workflow_finished has what answer nodes put out that had ended; the message has what was streamed."""
    end = RunEnded("failed", {"answer": "before "}, "boom", response_text=None if name == "text" else "before after ")
    exchange = Message(RUN, "app", "c", None, {}, "hey", (), 1, 0.0)
    assert exchange_after(exchange, end, "failed").answer == ("before " if name == "text" else "before after ")
