"""A stream that is cut off anywhere and taken up again tells everything, once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.dify.run_events import START, RunEvents, StreamEvent, StreamPosition
from headrace.errors import InvalidParam, NodeError
from headrace.kernel.events import (
    Delta,
    Event,
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.kernel.graph import Edge, Graph, NodeSpec
from headrace.node import Context, Flow, Result
from tests.api.serving import Client, Gate, Scripted, Serving, workflow
from tests.api.serving import Event as WireEvent

RUN = str(UUID(int=7))
# two models side by side, and an end that tells: a's text, a newline, b's text, a newline, a's length
_NODES = [NodeSpec("start", "start"), NodeSpec("a", "llm"), NodeSpec("b", "llm"), NodeSpec("end", "end")]
_EDGES = [Edge("start", "a"), Edge("start", "b"), Edge("a", "end"), Edge("b", "end")]
_PIECES = (("a", "text"), "\n", ("b", "text"), "\n", ("a", "size"))
FLOW = Flow(Graph(_NODES, _EDGES, "start", {"end": _PIECES}), {}, "two", "workflow")


class Story:
    """A run as it is lived: what is journaled, and what followers hear, in order."""

    def __init__(self) -> None:
        self.received: list[Record] = []
        self.seq = 0
        self.texts: dict[str, str] = {}
        self.saved_lengths: dict[str, int] = {}

    def note(self, *events: Event) -> None:
        """As the engine does: text that is not in the journal yet goes before whatever else does."""
        for path, text in self.texts.items():
            if len(text) > self.saved_lengths[path]:
                self._write(Delta(path, "text", self.saved_lengths[path], text[self.saved_lengths[path] :]))
                self.saved_lengths[path] = len(text)
        for event in events:
            self._write(event)

    def _write(self, event: Event) -> None:
        self.seq += 1
        self.received.append(Record(RUN, self.seq, float(self.seq), event))

    def begin(self, path: str) -> None:
        self.texts[path], self.saved_lengths[path] = "", 0

    def say(self, path: str, text: str) -> None:
        self.received.append(Record(RUN, None, 0.0, Delta(path, "text", len(self.texts[path]), text)))
        self.texts[path] += text

    def end(self, path: str) -> None:
        text = self.texts[path]
        self.note()
        del self.texts[path]
        self.note(NodeSucceeded(path, {"text": text, "size": len(text)}))

    def retry(self, path: str) -> None:
        self.note(NodeRetried(path, 1, "again", "Error"))
        self.begin(path)

    def crash(self) -> None:
        """What only followers heard is lost, and those attempts begin anew."""
        self._write(RunResumed(recovered=True))
        for path in self.texts:
            self.begin(path)


_MOVES = st.lists(
    st.tuples(st.sampled_from(["say a", "say b", "flush", "retry a", "retry b", "crash"]), st.text("xyz", min_size=1)),
    max_size=14,
)


def lived(moves: Sequence[tuple[str, str]], last: str) -> Story:
    story = Story()
    story.note(RunQueued("app", "v1", "task", "u1", {}, {"user_id": "u1"}), RunStarted(), NodeStarted("start"))
    story.note(NodeSucceeded("start", {}), NodeStarted("a"), NodeStarted("b"))
    story.begin("a")
    story.begin("b")
    for move, text in moves:
        verb, _, path = move.partition(" ")
        match verb:
            case "say":
                story.say(path, text)
            case "retry":
                story.retry(path)
            case "flush":
                story.note()
            case _:
                story.crash()
    story.end("ab"[last == "a"])
    story.end(last)
    story.note(NodeStarted("end"), NodeSucceeded("end", {}), RunEnded("succeeded"))
    return story


def heard_again(story: Story, cut: int, late: int) -> list[Record]:
    """What a follower hears who comes when `cut` records have been heard: the journal so far, then what comes; of the
    text that only followers heard it may miss the first `late`."""
    before = [record for record in story.received[:cut] if record.seq is not None]
    after = story.received[cut:]
    while late and after and after[0].seq is None:
        after, late = after[1:], late - 1
    return before + after


def facts(sent: Sequence[StreamEvent]) -> list[Any]:
    """What a client makes of frames: text that comes piece by piece is one text."""
    seen: list[Any] = []
    for event in sent:
        if (
            event.event == "text_chunk"
            and seen
            and seen[-1][0] == "text"
            and seen[-1][1] == event.data["from_variable_selector"]
        ):
            seen[-1][2] += event.data["text"]
        elif event.event == "text_chunk":
            seen.append(["text", event.data["from_variable_selector"], event.data["text"]])
        else:
            seen.append([event.event, event.data.get("node_id"), event.data.get("status")])
    return seen


def crashes(story: Story, upto: int | None = None) -> int:
    return sum(isinstance(record.event, RunResumed) for record in story.received[:upto])


@settings(max_examples=150)
@given(_MOVES, st.sampled_from("ab"), st.integers(0, 3))
def test_a_stream_cut_at_any_frame_goes_on_where_it_was(moves: list[tuple[str, str]], last: str, late: int) -> None:
    story = lived(moves, last)
    whole = RunEvents(RUN, FLOW)
    sent: list[tuple[int, StreamEvent]] = []  # with how many records had been heard by then
    for count, record in enumerate(story.received, 1):
        sent += [(count, event) for event in whole.feed(record)]
    for index, (count, event) in enumerate(sent):
        rest = RunEvents(RUN, FLOW, StreamPosition.parse(str(event.position)))
        received = heard_again(story, count, late)
        if crashes(story) == crashes(story, count):
            again = [item for record in received for item in rest.feed(record)]
            assert facts([*(entry for _, entry in sent[: index + 1]), *again]) == facts([entry for _, entry in sent])
            continue
        # What only followers heard before a crash is lost to who was away: it may miss that, as long as it hears
        # nothing twice of what came before the crash, and all that came after.
        last_crash = max(at for at, record in enumerate(story.received) if isinstance(record.event, RunResumed))
        resumed = received.index(story.received[last_crash])
        for record in received[:resumed]:
            rest.feed(record)
        after = [item for record in received[resumed:] for item in rest.feed(record)]
        assert facts(after) == facts([entry for at, entry in sent if at > last_crash])


@settings(max_examples=50)
@given(_MOVES, st.sampled_from("ab"))
def test_ids_lead_on_from_a_resumed_stream_too(moves: list[tuple[str, str]], last: str) -> None:
    """Cut, resumed, cut again at the next frame, and so on to the end."""
    story = lived(moves, last)
    whole = RunEvents(RUN, FLOW)
    everything = [event for record in story.received for event in whole.feed(record)]
    place, got = START, list[StreamEvent]()
    for _ in range(len(story.received) + 50):
        run_events = RunEvents(RUN, FLOW, place)
        result = next((new for record in story.received if (new := run_events.feed(record))), None)
        if result is None:
            break
        got.append(result[0])
        place = result[0].position
    assert facts(got) == facts(everything)


@pytest.mark.parametrize(
    "text", ["", "x", "1:", ":1", "1:2:3", "-1", "1.5", "٣", "9" * 30, "1\n2", "1e3", "1+", "1+2", "1+2:", "1:2+3:4+"]
)
def test_an_id_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidParam, match="Last-Event-ID"):
        StreamPosition.parse(text)


def test_a_retry_is_told_as_one() -> None:
    run_events = RunEvents(RUN, FLOW)
    story = lived([], "b")
    event = NodeRetried("a", 2, "no luck", "HttpRequestNodeError", {"q": 1})
    sent = [run_events.feed(record) for record in [*story.received[:6], Record(RUN, 7, 9.5, event)]][-1]
    assert [item.event for item in sent] == ["node_retry"]
    body = orjson.loads(run_events.encode(sent[0]))
    assert body["event"] == "node_retry"
    data = body["data"]
    assert (data["status"], data["error"], data["retry_index"], data["inputs"]) == ("retry", "no luck", 2, {"q": 1})
    assert (data["elapsed_time"], data["outputs"], data["execution_metadata"]) == (4.5, {}, None)


@pytest.mark.parametrize("strategy", ["fail-branch", "default-value"])
def test_a_handled_failure_is_an_exception_with_the_real_error(strategy: str) -> None:
    run_events = RunEvents(RUN, FLOW)
    event = NodeFailed("a", "no luck", "Boom", strategy=strategy, outputs={"error_message": "no luck"})
    sent = [run_events.feed(record) for record in [*lived([], "b").received[:6], Record(RUN, 7, 9.0, event)]][-1]
    data = sent[-1].data
    assert (data["status"], data["error"]) == ("exception", "no luck")
    assert data["execution_metadata"] == {"error_strategy": strategy}


# ------------------------------------------------------------------------------------------------------ over HTTP


async def story_of(server: Serving, pieces: Sequence[str]) -> tuple[Client, Gate]:
    gate = Scripted.scripts["model"] = Gate(pieces)
    outputs: Mapping[str, Sequence[str]] = {"text": ["model", "text"], "who": ["sys", "user_id"]}
    return await server.add("model.yml", workflow(["model"], outputs=outputs)), gate


def text_of(events: Sequence[WireEvent]) -> str:
    return "".join(item.data["text"] for item in events if item.name == "text_chunk")


async def test_a_model_streams_and_a_dropped_client_takes_up_where_it_was(server: Serving) -> None:
    app, gate = await story_of(server, ["one ", "two ", "three ", "four"])
    async with app.stream() as stream:
        gate.let(2)
        got = await stream.until("text_chunk")
        got += await stream.until("text_chunk")
        assert text_of(got) == "one two "
    run, last = got[0].body["workflow_run_id"], str(got[-1].id)
    gate.let()  # said while nobody listens
    async with app.stream(f"/v1/workflow/{run}/events?user=u1", {"Last-Event-ID": last}) as stream:
        gate.let(2)
        rest = await stream.rest()
    assert text_of(got + rest) == "one two three four\nu1"
    assert [item.name for item in got + rest if item.name != "text_chunk"] == [
        "workflow_started",
        "node_started",
        "node_finished",
        "node_started",
        "node_finished",
        "node_started",
        "node_finished",
        "workflow_finished",
    ]
    # the same again from the journal alone, by the query parameter
    async with app.stream(f"/v1/workflow/{run}/events?user=u1&last_event_id={last}") as stream:
        again = await stream.rest()
    assert text_of(got + again) == text_of(got + rest)
    assert again[-1] == rest[-1]


async def test_every_cut_of_a_finished_stream_can_be_taken_up(server: Serving) -> None:
    app, gate = await story_of(server, ["one ", "two"])
    gate.let(3)
    async with app.stream() as stream:
        events = await stream.rest()
    run = events[0].body["workflow_run_id"]
    for index, event in enumerate(events):
        headers = {"Last-Event-ID": str(event.id)}
        async with app.stream(f"/v1/workflow/{run}/events?user=u1", headers) as stream:
            rest = await stream.rest()
        assert text_of(events[: index + 1] + rest) == text_of(events)
        assert [item.id for item in rest if item.name != "text_chunk"] == [
            item.id for item in events[index + 1 :] if item.name != "text_chunk"
        ]


DIFFERENT_REQUESTS = [
    ({}, False),
    ({"Accept": "*/*"}, False),
    ({"Accept": "text/event-stream"}, False),
    ({"Accept": "text/event-stream;ids=false"}, False),
    ({"Accept": "application/json; ids=true"}, False),
    ({"Accept": "text/event-stream; noids=true"}, False),
    ({"Accept": "text/event-stream; ids=truer"}, False),
    ({"Accept": "text/event-stream; ids=true"}, True),
    ({"Accept": "application/json, Text/Event-Stream;q=0.9; IDS=True, */*"}, True),
    ({"Accept": 'text/event-stream;ids="true";q=1'}, True),
    ({"Last-Event-ID": "0"}, True),
]


@pytest.mark.parametrize(("headers", "ids"), DIFFERENT_REQUESTS)
@pytest.mark.parametrize("path", ["/v1/workflows/run", "/api/v1/workflows/{app}/run"])
async def test_events_carry_ids_only_if_the_request_asks(
    server: Serving, path: str, headers: Mapping[str, str], ids: bool
) -> None:
    app, gate = await story_of(server, ["one ", "two"])
    gate.let(3)
    path = path.format(app=app.release.app.id)
    all_headers = {"Accept": "text/event-stream", **headers}
    async with app.stream(path, all_headers) as stream:
        if path.startswith("/api") and "text/event-stream" not in all_headers["Accept"].lower():
            assert stream.answer.status == 202, "there only what accepts events gets any"
            return
        events = await stream.rest()
    run = events[0].body["workflow_run_id"]
    follow = f"/v1/workflow/{run}/events?user=u1&last_event_id=0"
    native = f"/api/v1/workflow-runs/{run}/events"
    streams = [stream]
    for item in (follow, native):
        async with app.stream(item, {"Accept": "*/*", **headers}) as stream:
            rest = await stream.rest()
        streams.append(stream)
        assert text_of(rest) == text_of(events)
        assert rest[-1].body == events[-1].body
    for item in streams:
        blocks = item.raw.split(b"\n\n")
        assert blocks.pop() == b""
        for block in blocks:
            data, *more = block.split(b"\n")
            assert data.startswith(b"data: {")
            assert orjson.loads(data[6:])["event"]
            assert [line.partition(b": ")[0] for line in more] == [b"id"] * ids


async def test_a_stream_without_ids_is_resumed_by_its_run_alone(server: Serving) -> None:
    app, gate = await story_of(server, ["one ", "two"])
    async with app.stream(headers={"Accept": "*/*"}) as stream:
        gate.let()
        got = await stream.until("text_chunk")
    assert [item.id for item in got] == [None] * len(got)
    gate.let(2)
    path = f"/v1/workflow/{got[0].body['workflow_run_id']}/events?user=u1"
    for _ in ("while it goes on", "when it has ended"):
        async with app.stream(f"{path}&last_event_id=0", {"Accept": "*/*"}) as again:
            everything = await again.rest()
        assert [item.body for item in everything[: len(got) - 1]] == [item.body for item in got[:-1]]
        assert text_of(everything) == "one two\nu1"
        assert everything[-1].name == "workflow_finished"
    async with app.stream(f"{path}&last_event_id=3", {"Accept": "*/*"}) as again:
        rest = await again.rest()
    assert {item.id for item in rest} == {None}
    assert text_of(rest) == "one two\nu1"
    assert rest[0].name != "workflow_started"


async def test_what_is_followed_without_an_id(server: Serving) -> None:
    app, gate = await story_of(server, ["one ", "two"])
    async with app.stream() as stream:
        gate.let()
        got = await stream.until("text_chunk")
        path = f"/v1/workflow/{got[0].body['workflow_run_id']}/events?user=u1"
        async with app.stream(f"{path}&include_state_snapshot=true") as whole, app.stream(path) as live:
            seen = await whole.until("node_started")
            gate.let(2)
            seen += await whole.rest()
            new = await live.rest()
        got += await stream.rest()
    assert text_of(seen) == text_of(got)
    assert [item.name for item in seen if item.name != "text_chunk"] == [
        item.name for item in got if item.name != "text_chunk"
    ]
    assert "workflow_started" not in [item.name for item in new]
    assert new[-1].body == got[-1].body
    async with app.stream(path) as ended:  # of a run that has ended, only that
        assert [item.body for item in await ended.rest()] == [got[-1].body]


@pytest.mark.parametrize("last", ["nonsense", "1:x", "99", "99:1"])
async def test_a_wrong_last_event_id_is_a_bad_request(server: Serving, last: str) -> None:
    app, gate = await story_of(server, [])
    gate.let()
    run = (await app.run())[1]["workflow_run_id"]
    path = f"/v1/workflow/{run}/events?user=u1"
    status, body = await app.call("GET", path, headers={"Last-Event-ID": last})
    assert (status, body["code"]) == (400, "invalid_param")
    assert (await app.call("GET", f"{path}&include_state_snapshot=maybe"))[0] == 400


async def test_a_failed_attempts_text_does_not_eat_the_next_ones(server: Serving) -> None:
    attempts: list[int] = []

    async def flaky(ctx: Context) -> Result:
        attempts.append(1)
        ctx.emit("text", "abc")
        await asyncio.sleep(0)
        if len(attempts) == 1:
            raise NodeError("no luck")
        ctx.emit("text", "def")
        return Result({"text": "abcdef"})

    Scripted.scripts["flaky"] = flaky
    retry = {"retry_config": {"retry_enabled": True, "max_retries": 2, "retry_interval": 1}}
    app = await server.add("flaky.yml", workflow(["flaky"], outputs={"text": ["flaky", "text"]}, node=retry))
    async with app.stream() as stream:
        events = await stream.rest()
    assert [item.name for item in events if item.name in ("node_retry", "text_chunk")] == [
        "text_chunk",
        "node_retry",
        "text_chunk",
        "text_chunk",
    ]
    run = events[0].body["workflow_run_id"]
    for index, event in enumerate(events):
        headers = {"Last-Event-ID": str(event.id)}
        async with app.stream(f"/v1/workflow/{run}/events?user=u1", headers) as stream:
            assert text_of(events[: index + 1] + await stream.rest()) == "abcabcdef"
