"""The contract's `streams`."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from typing import Any

import httpx
import pytest
from headrace_client import AsyncClient, Client, StreamInterruptedError, ValidationError, sse
from headrace_client.events import NodeFinished, TextChunk, WorkflowFinished, WorkflowStarted
from headrace_client.sse import Block, Decoder

from tests.sdk_contract.dify_server import Dify, cases, events_of, key_of
from tests.sdk_contract.serving import Running
from tests.sdk_python.clients import Fault, Maker, Time, collected
from tests.sdk_python.cutting import Cutting, events_in, with_places
from tests.serve.process import Serve

CASE = "02_template"
RECORDED = (cases()[CASE] / "response.stream.txt").read_bytes()
DETAIL = json.loads((cases()[CASE] / "run_detail.json").read_text())
RUN = events_of(CASE)[0]["workflow_run_id"]
STREAMED = [name for name, path in cases().items() if (path / "response.stream.txt").exists()]
SSE = {"Content-Type": "text/event-stream"}


def _plain(event: Any) -> dict[str, Any]:
    return json.loads(event.model_dump_json(exclude_unset=True))


# ------------------------------------------------------------------------------------------------------------- recorded


@pytest.mark.parametrize("case", STREAMED)
async def test_streams_recorded_events_are_told(make: Maker, dify: str, case: str) -> None:
    client = make(key_of(case), dify)
    chat = "_chat_" in case
    stream = client.stream_chat_message("hi") if chat else client.stream_workflow({"query": "hi"})
    told = await collected(stream)
    assert [_plain(event) for event in told] == events_of(case)
    assert not any(event.synthesized for event in told)


async def test_streams_events_are_typed(make: Maker, dify: str) -> None:
    async with make(key_of(CASE), dify).stream_workflow({"query": "hi"}) as stream:
        told = await collected(stream)
    assert isinstance(told[0], WorkflowStarted)
    assert told[0].data.inputs["query"] == "hi"
    assert [event.data.node_id for event in told if isinstance(event, NodeFinished)] == ["start", "tpl", "end"]
    assert "".join(event.text for event in told) == stream.text == "Hello hi! 12"
    assert isinstance(told[4], TextChunk)
    assert isinstance(told[-1], WorkflowFinished)
    assert stream.run.outputs == told[-1].data.outputs == told[-1]["data"]["outputs"]
    assert (stream.run_id, stream.last_event) == (RUN, told[-1])


async def test_streams_first_event_while_the_run_goes_on(make: Maker, headrace: Serve) -> None:
    client = make(headrace.keys["slow"], headrace.url, real_time=True)
    began = time.monotonic()
    async with client.stream_workflow({"seconds": 0.6}) as stream:
        first = await anext(aiter(stream))
        after = time.monotonic() - began
        assert first.event == "workflow_started"
        await stream.until_done()
        whole = time.monotonic() - began
    assert after < 0.4 < 0.6 < whole


async def test_streams_unknown_events_pass_through(make: Maker, fault: Fault) -> None:
    told = [
        {"event": "from_the_future", "data": {"a": [1]}, "more": True},
        {"event": "text_chunk", "data": "of another form"},
        {"no": "event"},
        {"event": "workflow_finished", "workflow_run_id": "r", "data": {"id": "r", "status": "succeeded"}},
    ]
    lines = "".join(f"data: {json.dumps(each)}\n\n" for each in told[:3]) + "data: no json\n\nevent: ping\n\n"
    lines += f"data: {json.dumps(told[3])}\n\n"
    fault.script({"status": 200, "headers": SSE, "body": lines})
    events = await collected(make("app-x", fault.url).stream_workflow({}))
    assert events[0]["data"] == {"a": [1]}
    assert events[0].more is True
    assert events[1].event == "text_chunk"
    assert events[1]["data"] == "of another form"
    assert events[2]["no"] == "event"
    assert events[3]["data"] == "no json"
    assert events[4].event == "workflow_finished"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_streams_lines_may_end_in_any_way(end: bytes, piece: int) -> None:
    lines = [
        "\ufeff: a comment",
        'data: {"a":',
        "data: 1}",
        "",
        "event: ping",
        "",
        "id: 7",
        "",
        "",
        "data:é中",
        "id: 8",
    ]
    sent = end.join(line.encode() for line in [*lines, "", "data: x", "", ""])
    decoder, blocks = Decoder(), list[Block]()
    for start in range(0, len(sent), piece):
        blocks += decoder.feed(sent[start : start + piece])
    assert blocks == [
        Block(None, b'{"a":\n1}', None),
        Block("ping", None, None),
        Block(None, None, "7"),
        Block(None, "é中".encode(), "8"),
        Block(None, b"x", None),
    ]
    assert decoder.end() == []


# ------------------------------------------------------------------------------------------------------------------ cut


def _sync(transport: httpx.BaseTransport) -> Client:
    time = Time()
    return Client("app-x", "http://test", http_client=httpx.Client(transport=transport), sleep=time.sleep)


PLACED = with_places(RECORDED)
EVENTS = events_in(RECORDED)
_QUARTERS = range(4)


@pytest.mark.parametrize("quarter", _QUARTERS)
def test_streams_cut_at_every_byte(quarter: int) -> None:
    """Every byte, of a server that resumes: the same events. Of a fresh client and of one that knows the server."""
    transport = Cutting(PLACED, [], resumes=True)
    with _sync(transport) as client:
        for cut in range(quarter, len(PLACED), 4):
            transport.cuts = [cut]
            if cut < PLACED.index(b"\n\n") + 2:
                with pytest.raises(StreamInterruptedError, match="before anything was known"):
                    list(client.stream_workflow({}))
                continue
            told = [_plain(event) for event in client.stream_workflow({})]
            assert told == EVENTS, cut


@pytest.mark.parametrize("quarter", _QUARTERS)
def test_streams_cut_at_every_byte_of_dify(quarter: int) -> None:
    """Every byte, of a server that does not resume: the events so far, and the end."""
    transport = Cutting(RECORDED, [], resumes=False)
    transport.detail = {**DETAIL, "id": RUN}
    ends = [place for place in range(len(RECORDED)) if RECORDED.startswith(b"\n\n", place)]
    with _sync(transport) as client:
        for cut in range(quarter, len(RECORDED), 4):
            transport.cuts = [cut]
            whole = sum(cut >= end + 2 for end in ends)
            if not whole:
                with pytest.raises(StreamInterruptedError, match="before anything was known"):
                    list(client.stream_workflow({}))
                continue
            told = list(client.stream_workflow({}))
            assert [_plain(event) for event in told[:whole]] == EVENTS[:whole], cut
            if whole < len(EVENTS):
                assert len(told) == whole + 1
                assert told[-1].synthesized
                assert told[-1]["data"]["outputs"] == EVENTS[-1]["data"]["outputs"]


async def test_streams_cut_here_and_there_asynchronously() -> None:
    """What the synchronous client is shown to do at every byte."""
    transport = Cutting(PLACED, [], resumes=True)
    async with AsyncClient("app-x", "http://test", http_client=httpx.AsyncClient(transport=transport)) as client:
        for cut in range(PLACED.index(b"\n\n") + 2, len(PLACED), 11):
            transport.cuts = [cut]
            assert [_plain(event) async for event in client.stream_workflow({})] == EVENTS, cut


def test_streams_cut_at_every_byte_of_a_fresh_client() -> None:
    """Around the first event, a client that has not met the server yet."""
    first = PLACED.index(b"\n\n", PLACED.index(b"id: 2"))
    for cut in range(PLACED.index(b"\n\n") + 2, first + 10):
        with _sync(Cutting(PLACED, [cut], resumes=True)) as client:
            assert [_plain(event) for event in client.stream_workflow({})] == EVENTS, cut


async def test_streams_cut_again_and_again() -> None:
    """Every connection is cut; a byte at a time comes through; as long as there is an event in each, it goes on."""
    largest = max(len(block) for block in PLACED.split(b"data: ")) + 6
    for piece in (1, 13):
        transport = Cutting(PLACED, [largest] * 20, resumes=True, piece=piece)
        async with AsyncClient("app-x", "http://test", http_client=httpx.AsyncClient(transport=transport)) as client:
            assert [_plain(event) async for event in client.stream_workflow({})] == EVENTS
    time = Time()
    transport = Cutting(PLACED, [largest, *[100] * 50], resumes=True)
    http = httpx.AsyncClient(transport=transport)
    async with AsyncClient("app-x", "http://test", http_client=http, sleep=time.sleep_async) as client:
        with pytest.raises(StreamInterruptedError, match="again and again") as raised:
            await client.stream_workflow({}).until_done()
    assert raised.value.run_id == RUN
    assert time.slept == [1, 2, 4]


@pytest.mark.parametrize("start", range(0, 1000, 250))
async def test_streams_resume_is_exact(make: Maker, headrace: Serve, faulty_headrace: Fault, start: int) -> None:
    """Over sockets, and the real server."""
    client = make(headrace.keys["19_chain20_template"], faulty_headrace.url)
    for cut in range(700 + start, 20_000, 1000):
        faulty_headrace.script({"pass": True, "cut": cut})
        stream = client.stream_workflow({"query": "hi"})
        told = [_plain(event) for event in await collected(stream)]
        whole = [_plain(event) for event in await collected(client.follow_workflow_run(stream.run_id))]
        assert told == whole, cut
        assert len(whole) > 40


async def test_streams_cut_without_resume_ends_with_the_outcome(make: Maker, faulty_dify: Fault) -> None:
    client = make(key_of(CASE), faulty_dify.url)
    for cut in (1000, 2000, len(RECORDED) - 3):
        faulty_dify.script({"pass": True, "cut": cut})
        stream = client.stream_workflow({"query": "hi"})
        told = await collected(stream)
        assert [event.synthesized for event in told] == [False] * (len(told) - 1) + [True]
        assert told[-1].event == "workflow_finished"
        assert told[-1].data.outputs == {"text": "Hello hi! 12"}
        assert stream.run.status == "succeeded"


async def test_streams_cut_of_a_run_that_goes_on(make: Maker, fault: Fault) -> None:
    """Its detail is asked for as the plan says, until the run has ended."""
    begun = 'data: {"event": "workflow_started", "workflow_run_id": "r1", "task_id": "t1", "data": {"id": "r1"}}\n\n'
    page = {"status": 404, "body": "<html></html>"}
    running = {"status": 200, "body": {"id": "r1", "status": "running"}}
    ended = {"status": 200, "body": {"id": "r1", "status": "failed", "error": "boom", "outputs": None}}
    fault.script({"status": 200, "headers": SSE, "body": begun, "cut": len(begun)}, page, running, running, ended)
    stream = make("app-x", fault.url).stream_workflow({})
    told = await collected(stream)
    assert [event.event for event in told] == ["workflow_started", "workflow_finished"]
    assert told[1].data.error == stream.run.error == "boom"
    assert make.time.slept == [1.0, 1.5]


async def test_streams_cut_before_the_first_event(make: Maker, faulty_dify: Fault) -> None:
    faulty_dify.script({"pass": True, "cut": 100})
    with pytest.raises(StreamInterruptedError, match="before anything was known") as raised:
        await collected(make(key_of(CASE), faulty_dify.url).stream_workflow({"query": "hi"}))
    assert raised.value.run_id is None
    assert faulty_dify.asked() == ["POST /v1/workflows/run"]


async def test_streams_cut_before_the_first_event_is_asked_for_again(
    make: Maker, headrace: Serve, faulty_headrace: Fault
) -> None:
    """Headrace makes no second run under one Idempotency-Key."""
    app = headrace.apps["hello"]
    client = make(app["key"], faulty_headrace.url)
    faulty_headrace.script({"pass": True, "cut": 100})
    stream = client.stream_workflow({"text": "hi"}, workflow_id=app["app_id"], user=f"cut-{make.kind}")
    told = await collected(stream)
    assert (told[0].event, told[-1].event) == ("workflow_started", "workflow_finished")
    assert [run.id async for run in client.list_workflow_runs(user=f"cut-{make.kind}")] == [stream.run_id]


async def test_streams_cut_and_no_outcome(make: Maker, faulty_dify: Fault) -> None:
    faulty_dify.script({"pass": True, "cut": 4000}, *[{"status": 500, "body": {"message": "broken"}}] * 20)
    stream = make(key_of(CASE), faulty_dify.url).stream_workflow({"query": "hi"})
    told: list[Any] = []

    async def read() -> None:
        async for event in stream:
            told.append(event)  # noqa: PERF401  # what came before the error is to be seen

    with pytest.raises(StreamInterruptedError, match="broken") as raised:
        await read()
    error = raised.value
    assert (error.run_id, error.task_id) == (RUN, told[0].task_id)
    assert error.last_event == told[-1]
    assert error.text == "Hello hi! 12"
    assert error.status == 500


# ------------------------------------------------------------------------------------------------------------------ end


@pytest.mark.parametrize("how", ["block", "close", "drop"])
async def test_streams_closing_early_closes_the_connection(make: Maker, how: str) -> None:
    dify = Dify(pause=0.02)
    with Running(dify.app()) as running:
        client = make(key_of("19_chain20"), running.url, real_time=True)
        stream = client.stream_workflow({"query": "hi"})
        if how == "block":
            async with stream:
                async for _ in stream:
                    break
        else:
            async for _ in stream:
                break
            if how == "close":
                await stream.aclose()
            del stream
            gc.collect()
        for _ in range(200):
            if dify.closed.is_set():
                break
            await asyncio.sleep(0.01)
        assert dify.closed.is_set()


async def test_streams_status_error_before_the_stream(make: Maker, dify: str) -> None:
    with pytest.raises(ValidationError) as raised:
        await collected(make(key_of("30_chat_simple"), dify).stream_workflow({}))
    assert raised.value.code == "not_workflow_app"


async def test_streams_go_on_after_their_last_word(make: Maker, fault: Fault) -> None:
    """Speech may follow message_end; a cut after it is no loss."""
    told = ["message", "message_end", "tts_message", "tts_message_end"]
    body = "".join(f'data: {{"event": "{each}", "answer": "a"}}\n\n' for each in told)
    for cut in (None, len(body)):
        fault.script({"status": 200, "headers": SSE, "body": body, "cut": cut})
        events = await collected(make("app-x", fault.url).stream_chat_message("hi"))
        assert [event.event for event in events] == told


async def test_streams_time_to_begin_is_not_the_time_of_silence(make: Maker) -> None:
    with Running(Dify(pause=0.1).app()) as running:
        told = await collected(make(key_of(CASE), running.url).stream_workflow({"query": "hi"}, timeout=0.05))
    assert [_plain(event) for event in told] == EVENTS


async def test_streams_error_event_is_told(make: Maker, dify: str) -> None:
    told = await collected(make(key_of("32_chat_fail"), dify).stream_chat_message("hi"))
    assert told[-1].event == "error"
    assert told[-1].message.startswith("Run failed")


async def test_streams_event_without_an_end(make: Maker, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_LARGEST", 1000)
    fault.script({"status": 200, "headers": SSE, "body": "data: " + "x" * 5000})
    with pytest.raises(StreamInterruptedError, match="more than"):
        await collected(make("app-x", fault.url).stream_workflow({}))


async def test_streams_silence_is_a_cut(make: Maker) -> None:
    with Running(Dify(pause=0.4).app()) as running:
        client = make(key_of(CASE), running.url, stream_silence=0.05)
        told = await collected(client.stream_workflow({"query": "hi"}))
    assert [event.event for event in told] == ["workflow_started", "workflow_finished"]
    assert told[-1].synthesized
