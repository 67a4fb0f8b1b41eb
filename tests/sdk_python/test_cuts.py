"""The contract's `streams`, where they are cut."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from headrace_client import AsyncClient, Client, StreamInterruptedError

from tests.sdk_contract.dify_server import cases, events_of, key_of
from tests.sdk_contract.framed_server import FRAMES, Framed
from tests.sdk_python.clients import Fault, Maker, Time, collect, plain
from tests.sdk_python.cutting import Cutting, events_in, places, with_places
from tests.server.process import Serve

CASE = "02_template"
RECORDED = (cases()[CASE] / "response.stream.txt").read_bytes()
DETAIL = json.loads((cases()[CASE] / "run_detail.json").read_text())
RUN = events_of(CASE)[0]["workflow_run_id"]
SSE = {"Content-Type": "text/event-stream"}


def _sync(transport: httpx.BaseTransport) -> Client:
    time = Time()
    return Client("app-x", "http://test", http_client=httpx.Client(transport=transport), sleep=time.sleep)


# so that cuts fall within characters, too
WORDS = RECORDED.replace(b"Hello hi!", "Hello 漢字🙂é".encode())
ENDED = {**DETAIL, "id": RUN, "outputs": DETAIL["outputs"].replace("Hello hi!", "Hello 漢字🙂é")}
PLACED = with_places(WORDS)
EVENTS = events_in(WORDS)
_QUARTERS = range(4)


@pytest.mark.parametrize("orderly", [False, True])
@pytest.mark.parametrize("quarter", _QUARTERS)
def test_streams_cut_at_every_byte(quarter: int, orderly: bool) -> None:
    """Every byte, of a server that resumes: the same events."""
    transport = Cutting(PLACED, [], resumes=True, orderly=orderly)
    with _sync(transport) as client:
        for cut in places(PLACED, quarter, orderly=orderly):
            transport.cuts = [cut]
            if cut < PLACED.index(b"\n\n") + 2:
                with pytest.raises(StreamInterruptedError, match="before anything was known"):
                    list(client.stream_workflow({}))
                continue
            events = [plain(event) for event in client.stream_workflow({})]
            assert events == EVENTS, cut


@pytest.mark.parametrize("orderly", [False, True])
@pytest.mark.parametrize("quarter", _QUARTERS)
def test_streams_cut_at_every_byte_of_dify(quarter: int, orderly: bool) -> None:
    """Every byte, of a server that does not resume: the events so far, and the end."""
    transport = Cutting(WORDS, [], resumes=False, orderly=orderly)
    transport.detail = ENDED
    ends = [place for place in range(len(WORDS)) if WORDS.startswith(b"\n\n", place)]
    with _sync(transport) as client:
        for cut in places(WORDS, quarter, orderly=orderly):
            transport.cuts = [cut]
            complete = sum(cut >= end + 2 for end in ends)
            if not complete:
                with pytest.raises(StreamInterruptedError, match="before anything was known"):
                    list(client.stream_workflow({}))
                continue
            events = list(client.stream_workflow({}))
            assert [plain(event) for event in events[:complete]] == EVENTS[:complete], cut
            if complete < len(EVENTS):
                assert len(events) == complete + 1
                assert events[-1].synthesized
                assert events[-1]["data"]["outputs"] == EVENTS[-1]["data"]["outputs"]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("frame", FRAMES)
async def test_streams_cut_over_sockets(make: Maker, frame: str, reset: bool) -> None:
    """For every framing of the body, and both ways to lose the connection."""
    with Framed(WORDS, json.dumps(ENDED).encode()) as server:
        client = make("app-x", server.url)
        server.frame, server.reset = frame, reset
        for server.cut in (0, 1, *range(WORDS.index(b"\n\n") + 1, len(WORDS), 211), len(WORDS) - 1, len(WORDS)):
            stream = client.stream_workflow({})
            if server.cut <= WORDS.index(b"\n\n") + 1:
                with pytest.raises(StreamInterruptedError, match="before anything was known"):
                    await stream.until_done()
                continue
            events = await collect(stream)
            original = [event for event in events if not event.synthesized]
            assert [plain(event) for event in original] == EVENTS[: len(original)]
            assert events[-1]["data"]["outputs"] == EVENTS[-1]["data"]["outputs"], server.cut


async def test_streams_cut_here_and_there_asynchronously() -> None:
    """The asynchronous client at some of the bytes that the synchronous one is tested at."""
    transport = Cutting(PLACED, [], resumes=True)
    async with AsyncClient("app-x", "http://test", http_client=httpx.AsyncClient(transport=transport)) as client:
        for cut in range(PLACED.index(b"\n\n") + 2, len(PLACED), 11):
            transport.cuts = [cut]
            assert [plain(event) async for event in client.stream_workflow({})] == EVENTS, cut


@pytest.mark.parametrize("orderly", [False, True])
def test_streams_cut_at_every_byte_of_a_fresh_client(orderly: bool) -> None:
    """Around the first event, with a client that knows nothing about the server yet."""
    first = PLACED.index(b"\n\n", PLACED.index(b"id: 2"))
    for cut in range(PLACED.index(b"\n\n") + 2, first + 10):
        with _sync(Cutting(PLACED, [cut], resumes=True, orderly=orderly)) as client:
            assert [plain(event) for event in client.stream_workflow({})] == EVENTS, cut


async def test_streams_cut_again_and_again() -> None:
    """Every connection is cut, one byte later each time; the stream continues as long as each brings an event."""
    largest = max(len(block) for block in PLACED.split(b"data: ")) + 6
    for piece in (1, 13):
        transport = Cutting(PLACED, [largest] * 20, resumes=True, piece=piece)
        async with AsyncClient("app-x", "http://test", http_client=httpx.AsyncClient(transport=transport)) as client:
            assert [plain(event) async for event in client.stream_workflow({})] == EVENTS
    time = Time()
    transport = Cutting(PLACED, [largest, *[100] * 50], resumes=True)
    http = httpx.AsyncClient(transport=transport)
    async with AsyncClient("app-x", "http://test", http_client=http, sleep=time.sleep_async) as client:
        with pytest.raises(StreamInterruptedError, match="again and again") as raised:
            await client.stream_workflow({}).until_done()
    assert raised.value.run_id == RUN
    assert time.delays == [1, 2, 4]


@pytest.mark.parametrize("start", range(0, 1000, 250))
async def test_streams_resume_is_exact(make: Maker, headrace: Serve, faulty_headrace: Fault, start: int) -> None:
    """Over sockets, and the real server."""
    client = make(headrace.keys["19_chain20_template"], faulty_headrace.url)
    for cut in range(700 + start, 20_000, 1000):
        faulty_headrace.script({"pass": True, "cut": cut})
        stream = client.stream_workflow({"query": "hi"})
        events = [plain(event) for event in await collect(stream)]
        all_events = [plain(event) for event in await collect(client.follow_workflow_run(stream.run_id))]
        assert events == all_events, cut
        assert len(all_events) > 40


async def test_streams_cut_without_resume_ends_with_the_outcome(make: Maker, faulty_dify: Fault) -> None:
    client = make(key_of(CASE), faulty_dify.url)
    for cut in (1000, 2000, len(RECORDED) - 3):
        faulty_dify.script({"pass": True, "cut": cut})
        stream = client.stream_workflow({"query": "hi"})
        events = await collect(stream)
        assert [event.synthesized for event in events] == [False] * (len(events) - 1) + [True]
        assert events[-1].event == "workflow_finished"
        assert events[-1].data.outputs == {"text": "Hello hi! 12"}
        assert stream.run.status == "succeeded"


async def test_streams_cut_of_a_run_that_continues(make: Maker, fault: Fault) -> None:
    """Its detail is polled as the plan says, until the run has ended."""
    line = 'data: {"event": "workflow_started", "workflow_run_id": "r1", "task_id": "t1", "data": {"id": "r1"}}\n\n'
    running = {"status": 200, "body": {"id": "r1", "status": "running"}}
    ended = {"status": 200, "body": {"id": "r1", "status": "failed", "error": "boom", "outputs": None}}
    fault.script({"status": 200, "headers": SSE, "body": line, "cut": len(line)}, running, running, ended)
    stream = make("app-x", fault.url).stream_workflow({})
    events = await collect(stream)
    assert [event.event for event in events] == ["workflow_started", "workflow_finished"]
    assert events[1].data.error == stream.run.error == "boom"
    assert make.time.delays == [1.0, 1.5]


async def test_streams_cut_before_the_first_event(make: Maker, faulty_dify: Fault) -> None:
    faulty_dify.script({"pass": True, "cut": 100})
    with pytest.raises(StreamInterruptedError, match="before anything was known") as raised:
        await collect(make(key_of(CASE), faulty_dify.url).stream_workflow({"query": "hi"}))
    assert raised.value.run_id is None
    assert faulty_dify.calls() == ["POST /v1/workflows/run"]


async def test_streams_cut_before_the_first_event_is_requested_again(
    make: Maker, headrace: Serve, faulty_headrace: Fault
) -> None:
    """Headrace does not start a second run with the same Idempotency-Key."""
    app = headrace.apps["hello"]
    client = make(app["key"], faulty_headrace.url)
    faulty_headrace.script({"pass": True, "cut": 100})
    stream = client.stream_workflow({"text": "hi"}, workflow_id=app["app_id"], user=f"cut-{make.kind}")
    events = await collect(stream)
    assert (events[0].event, events[-1].event) == ("workflow_started", "workflow_finished")
    assert [run.id async for run in client.list_workflow_runs(user=f"cut-{make.kind}")] == [stream.run_id]


async def test_streams_cut_and_no_outcome(make: Maker, faulty_dify: Fault) -> None:
    faulty_dify.script({"pass": True, "cut": 4000}, *[{"status": 500, "body": {"message": "broken"}}] * 20)
    stream = make(key_of(CASE), faulty_dify.url).stream_workflow({"query": "hi"})
    events: list[Any] = []

    async def read() -> None:
        async for event in stream:
            events.append(event)  # noqa: PERF401  # keeps the events before the error

    with pytest.raises(StreamInterruptedError, match="broken") as raised:
        await read()
    error = raised.value
    assert (error.run_id, error.task_id) == (RUN, events[0].task_id)
    assert error.last_event == events[-1]
    assert error.text == "Hello hi! 12"
    assert error.status == 500
