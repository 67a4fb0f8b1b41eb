"""Streams of runs with rounds, cut off anywhere: whoever comes back is told all that follows, and nothing twice."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.dify.run_events import RunEvents, StreamEvent, StreamPosition
from headrace.dsl.load import load
from headrace.engine import Driver
from headrace.kernel.events import (
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunQueued,
    RunStarted,
)
from headrace.kernel.graph_response import GraphResponse
from headrace.kernel.retry import fork
from headrace.node import Flow
from tests.api.test_resume import Story
from tests.engine.nests import REGISTRY, flow, iteration, loop, node, queued_record, source
from tests.engine.worlds import world

RUN = str(UUID(int=7))
LETTERS = ("abc", "xyz")  # what the node of each round says
ROUNDS = ("it[0]/t", "it[1]/t")


def told_inside(**data: Any) -> Flow:
    """A chat with an iteration of two rounds at once; in each a node speaks, and an answer says what it said."""
    inside = [
        node("t", "slow-echo", "it", reads=[["it", "item"]], **data),
        node("in", "answer", "it", answer="<{{#t.text#}}>"),
    ]
    several: dict[str, Any] = {"is_parallel": True, "parallel_nums": 2, "error_handle_mode": "continue-on-error"}
    file = yaml.safe_load(
        source(
            [iteration("it", ["start", "items"], ["t", "text"], **several), *inside],
            "start>it it-start>t t>in it>end",
            {},
        )
    )
    file["app"]["mode"] = "advanced-chat"
    file["workflow"]["graph"]["nodes"][-1]["data"] = {"type": "answer", "title": "end", "answer": "!"}
    return load(yaml.safe_dump(file), REGISTRY, "told.yml")


FLOW = told_inside()


def lived(moves: Sequence[tuple[int, str]]) -> list[Record]:
    story = Story()
    items: dict[str, Any] = {"iterator_selector": [0, 1]}
    story.note(RunQueued("app", "v1", "task", "u1", {}, {"user_id": "u1"}), RunStarted(), NodeStarted("start"))
    story.note(NodeSucceeded("start", {"items": [0, 1]}), NodeStarted("it", items))
    for index, path in enumerate(ROUNDS):
        story.note(RoundStarted("it", index, {"item": index, "index": index}), NodeStarted(path))
        story.begin(path)
    for which, letters in moves:
        if which == 2:
            story.note()
        else:
            story.say(ROUNDS[which], "".join(LETTERS[which][ord(letter) - ord("0")] for letter in letters))
    for index, path in enumerate(ROUNDS):
        story.end(path)
        story.note(NodeStarted(f"it[{index}]/in"), NodeSucceeded(f"it[{index}]/in", {"answer": ""}))
    story.note(NodeSucceeded("it", {"output": []}), NodeStarted("end"), NodeSucceeded("end", {"answer": "!"}))
    story.note(RunEnded("succeeded"))
    return story.received


def facts(sent: Sequence[StreamEvent]) -> Any:
    """What was said, and the events."""
    text = "".join(event.data["text"] for event in sent if event.event == "text_chunk")
    events = [(event.event, event.data.get("id"), event.data.get("index")) for event in sent]
    return text, [item for item in events if item[0] != "text_chunk"]


def cut_anywhere(tested: Flow, received: Sequence[Record]) -> None:
    whole = RunEvents(RUN, tested)
    sent = [(count, event) for count, record in enumerate(received, 1) for event in whole.feed(record)]
    everything = facts([event for _, event in sent])
    for index, (count, event) in enumerate(sent):
        rest = RunEvents(RUN, tested, StreamPosition.parse(str(event.position)))
        known = [record for record in received[:count] if record.seq is not None]
        again = [item for record in [*known, *received[count:]] for item in rest.feed(record)]
        assert facts([*(entry for _, entry in sent[: index + 1]), *again]) == everything


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 2), st.text("012", min_size=1, max_size=4)), max_size=12))
def test_rounds_that_speak_at_once(moves: list[tuple[int, str]]) -> None:
    cut_anywhere(FLOW, lived(moves))


async def test_the_last_turn_of_a_loop_is_told_once() -> None:
    """Its loop_next and loop_completed are made of one record."""
    tested = flow(
        [loop("lo", 2), node("in", "slow-echo", "lo")], "start>lo lo-start>in lo>end", {"out": ["lo", "loop_round"]}
    )
    where = world()
    await where.journal.append([queued_record()])
    await Driver("run", tested, where).drive()
    cut_anywhere(tested, await where.journal.read("run"))


@pytest.mark.parametrize(
    "place",
    [
        StreamPosition(12),
        StreamPosition(12, 3),
        StreamPosition(12, 0, ((5, 7), (9, 1))),
        StreamPosition(12, 3, ((5, 7),)),
    ],
)
def test_an_id_names_its_place(place: StreamPosition) -> None:
    assert StreamPosition.parse(str(place)) == place


async def test_a_container_taken_over_from_another_run_was_paid_nothing() -> None:
    inside = node("in", "slow-echo", "it", reads=[["it", "item"]], tokens=7)
    tested = flow([iteration("it", ["start", "items"], ["in", "r"]), inside], "start>it it-start>in it>end", {})
    where = world()
    await where.journal.append([queued_record(items=[1, 2])])
    await Driver("run", tested, where).drive()
    old = await where.journal.read("run")
    assert isinstance(old[0].event, RunQueued)
    run_events = RunEvents(RUN, tested)
    sent = [event for record in fork(old, RUN, 1.0, old[0].event) for event in run_events.feed(record)]
    (completed,) = [event.data for event in sent if event.event == "iteration_completed"]
    assert (completed["total_tokens"], completed["execution_metadata"]["total_price"]) == (0, "0.0")


async def lived_through(tested: Flow, **inputs: Any) -> list[Record]:
    where = world()
    await where.journal.append([queued_record(**inputs)])
    await Driver("run", tested, where).drive()
    return await where.journal.read("run")


def levels() -> int:
    """How many graphs at work the answers of this process know of."""
    return sum(type(item) is GraphResponse for item in gc.get_objects())


async def test_a_follower_forgets_a_round_that_has_said_its_words() -> None:
    """Else each record would cost more than the one before."""
    records = await lived_through(told_inside(fails_on=[3, 8]), items=list(range(12)))
    run_events, before = RunEvents(RUN, FLOW), levels()
    known: list[int] = []
    for record in records:
        run_events.feed(record)
        if isinstance(record.event, RoundStarted):
            known.append(levels() - before)
    assert len(known) == 12
    assert max(known) == 2


async def test_an_attempt_in_a_round_says_whose_round_it_is() -> None:
    retry = {"retry_enabled": True, "max_retries": 1, "retry_interval": 0}
    inside = node("in", "slow-echo", "lo", fails_first=1, retry_config=retry)
    tested = flow(
        [iteration("it", ["start", "items"], ["lo", "loop_round"]), loop("lo", 1, "it"), inside],
        "start>it it-start>lo lo-start>in it>end",
        {"out": ["it", "output"]},
    )
    run_events = RunEvents(RUN, tested)
    sent = [event for record in await lived_through(tested, items=["a"]) for event in run_events.feed(record)]
    (again,) = [event.data for event in sent if event.event == "node_retry"]
    place = {"iteration_id": "it", "iteration_index": 0, "loop_id": "lo", "loop_index": 0}
    assert again["execution_metadata"] == place
    assert (again["iteration_id"], again["loop_id"], again["retry_index"]) == ("it", "lo", 1)
