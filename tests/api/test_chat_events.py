"""What goes with a chat's text, and streams of chats that are cut off and taken up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.dify.chat_events import ChatEvents
from headrace.api.dify.chat_responses import BlockingMessage, Reply
from headrace.api.dify.run_events import START, RunEvents, StreamEvent, StreamPosition
from headrace.api.dify.runs import events_for
from headrace.kernel.events import NodeStarted, NodeSucceeded, Record, RoundStarted, RunEnded, RunQueued
from headrace.kernel.graph import NO_TRAITS, Traits
from headrace.node import Config, Flow, Node
from headrace.ports.services import Usage
from headrace.values import File
from tests.api import test_resume
from tests.api.test_resume import FLOW, RUN, lived
from tests.engine import nests

MODES = ("advanced-chat", "chat")


def flow(mode: str, features: Mapping[str, Any] | None = None, **traits: Traits) -> Flow:
    """The flow of test_resume as a chat; `traits`: of its nodes."""
    nodes = {
        name: cast("Node[Config]", SimpleNamespace(traits=value, config=Config())) for name, value in traits.items()
    }
    return replace(FLOW, mode=mode, features=features or {}, nodes=nodes)


def facts(sent: Sequence[StreamEvent]) -> list[list[Any]]:
    """What a client makes of frames: text that comes piece by piece is one text."""
    seen: list[list[Any]] = []
    for event in sent:
        if event.event == "message" and seen and seen[-1][0] == "message":
            seen[-1][1] += event.data["answer"]
        elif event.event == "message":
            seen.append(["message", event.data["answer"]])
        else:
            seen.append([event.event, event.data.get("node_id"), event.data.get("status")])
    return seen


_MOVES = st.lists(
    st.tuples(st.sampled_from(["say a", "say b", "flush", "retry a", "retry b"]), st.text("xyz", min_size=1)),
    max_size=14,
)


@settings(max_examples=100)
@given(_MOVES, st.sampled_from("ab"), st.integers(0, 3), st.sampled_from(MODES))
def test_a_stream_cut_at_any_frame_goes_on_where_it_was(
    moves: list[tuple[str, str]], last: str, late: int, mode: str
) -> None:
    story, chat = lived(moves, last), flow(mode)
    whole = ChatEvents(RUN, chat)
    sent = [(count, event) for count, record in enumerate(story.received, 1) for event in whole.feed(record)]
    assert sent[-1][1].event == "message_end"
    for index, (count, event) in enumerate(sent):
        rest = ChatEvents(RUN, chat, StreamPosition.parse(str(event.position)))
        again = [item for record in test_resume.heard_again(story, count, late) for item in rest.feed(record)]
        assert facts([*(event for _, event in sent[: index + 1]), *again]) == facts([event for _, event in sent])


@settings(max_examples=50)
@given(_MOVES, st.sampled_from("ab"), st.sampled_from(MODES))
def test_ids_lead_on_from_a_resumed_stream_too(moves: list[tuple[str, str]], last: str, mode: str) -> None:
    """Cut, resumed, cut again at the next frame, and so on to the end."""
    story, chat = lived(moves, last), flow(mode)
    whole = ChatEvents(RUN, chat)
    everything = [event for record in story.received for event in whole.feed(record)]
    place, got = START, list[StreamEvent]()
    for _ in range(len(story.received) + 50):
        chat_events = ChatEvents(RUN, chat, place)
        result = next((new for record in story.received if (new := chat_events.feed(record))), None)
        if result is None:
            break
        got.append(result[0])
        place = result[0].position
    assert facts(got) == facts(everything)


def test_each_app_is_told_in_its_own_dialect() -> None:
    kinds = {mode: type(events_for(RUN, flow(mode))) for mode in ("workflow", "advanced-chat", "chat", "completion")}
    assert kinds == {"workflow": RunEvents, "advanced-chat": ChatEvents, "chat": ChatEvents, "completion": ChatEvents}


# --------------------------------------------------------------------------------------------- what goes with a text

QUEUED = RunQueued("app", "v1", "task", "u1", {}, {"query": "x"}, conversation="c")


def folded(chat: Flow, *events: Any) -> Reply:
    reply = Reply(chat)
    for seq, event in enumerate((QUEUED, *events), 1):
        reply.apply(Record(RUN, seq, float(seq), event))
    return reply


def passage(document: str, **more: Any) -> dict[str, Any]:
    metadata = {"_source": "knowledge", "dataset_id": "d", "document_id": document, "score": 0.5}
    return {"content": f"of {document}", "title": document, "metadata": metadata, **more}


def test_sources_are_told_once_a_document_and_numbered() -> None:
    result = [passage("one"), passage("two"), passage("one")]
    events = [
        NodeSucceeded("a", {"result": result}),
        NodeSucceeded("b", {"result": [passage("two"), passage("three")]}),
    ]
    kinds = {"a": Traits(cites=True), "b": Traits(cites=True)}
    on = flow("chat", {"retriever_resource": {"enabled": True}}, **kinds)
    sources = folded(on, *events).metadata["retriever_resources"]
    assert [(source["position"], source.get("document_id")) for source in sources] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
    ]
    assert folded(flow("chat", **kinds), *events).metadata["retriever_resources"] == []
    passed_on = flow("chat", {"retriever_resource": {"enabled": True}}, a=NO_TRAITS, b=NO_TRAITS)
    assert folded(passed_on, *events).metadata["retriever_resources"] == []


def test_sources_that_a_plugin_names() -> None:
    sources = [{"dataset_id": "d", "document_id": "one", "content": "c", "position": 7}, {"content": "of the web"}]
    events = [NodeSucceeded("a", {}, process={"retriever_resources": sources})]
    on = flow("chat", {"retriever_resource": {"enabled": True}}, a=NO_TRAITS)
    cited = folded(on, *events).metadata["retriever_resources"]
    assert [(source["position"], source["content"]) for source in cited] == [(1, "c"), (2, "of the web")]
    assert folded(flow("chat", a=NO_TRAITS), *events).metadata["retriever_resources"] == []


def test_what_a_container_paid_is_not_counted_twice() -> None:
    paid = Usage(6, 4).wire()
    inside, around = NodeSucceeded("a[0]/llm", {}, usage=paid), NodeSucceeded("a", {}, usage={"total_tokens": 10})
    parts = [nests.iteration("a", ["start", "items"], ["llm", "r"]), nests.node("llm", "echo", "a")]
    nested = nests.flow(parts, "start>a a-start>llm a>end", {"out": ["a", "output"]})
    chat = replace(flow("advanced-chat"), graph=nested.graph)
    usage = folded(chat, NodeStarted("a"), RoundStarted("a", 0), NodeStarted("a[0]/llm"), inside, around).usage
    assert (usage["total_tokens"], usage["prompt_tokens"]) == (10, 6)


def test_times_count_from_the_question_to_the_first_text() -> None:
    reply = folded(flow("chat"))
    assert reply.usage["time_to_first_token"] is None
    reply.on_text([("\n", ("a", "text"))], 2.0)  # pyright: ignore[reportArgumentType]
    reply.on_text([("Hi", ("a", "text"))], 3.5)  # pyright: ignore[reportArgumentType]
    reply.on_text([("!", ("a", "text"))], 4.0)  # pyright: ignore[reportArgumentType]
    assert (reply.usage["time_to_first_token"], reply.usage["time_to_generate"]) == (2.5, 0.5)


@pytest.mark.parametrize(("mode", "sent"), [("chat", ["message_file", "message_end"]), ("advanced-chat", [])])
def test_files_of_an_answer_are_told(mode: str, sent: list[str]) -> None:
    file = File("image", "tool_file", "a.png", ".png", "image/png", 3, related_id="f1", url="http://x/a.png")
    chat = flow(mode, a=Traits(generates=True), b=Traits(response="answer"))
    chat_events = ChatEvents(RUN, chat)
    story = lived([], "b").received
    events = [record.event for record in story if record.seq is not None]
    events = [
        replace(item, outputs={"files": [file]}) if isinstance(item, NodeSucceeded) and item.path in "ab" else item
        for item in events
    ]
    records = [Record(RUN, seq, float(seq), event) for seq, event in enumerate(events, 1)]
    got = [frame for record in records for frame in chat_events.feed(record)]
    assert [item.event for item in got if item.event.startswith("message_")] == (sent or ["message_end"])
    assert got[-1].data["files"] == [file]
    if sent:
        [file_data] = [item.data for item in got if item.event == "message_file"]
        assert file_data == {"id": "f1", "type": "image", "belongs_to": "assistant", "url": "http://x/a.png"}


def test_a_run_that_fails_without_a_word() -> None:
    reply = BlockingMessage(RUN, "task", flow("chat"))
    assert reply.feed(Record(RUN, 1, 1.0, QUEUED)) is None
    assert reply.feed(Record(RUN, 2, 2.0, RunEnded("failed"))) is None
    assert reply.error is not None
    assert (reply.error.status, reply.error.code, str(reply.error)) == (400, "invalid_param", "The run failed.")
