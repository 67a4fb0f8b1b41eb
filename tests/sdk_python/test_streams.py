"""The contract's `streams`."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
from typing import Any, get_args

import pytest
from headrace_client import ServerError, StreamInterruptedError, ValidationError, sse
from headrace_client.events import (
    Event,
    HumanInputFormFilled,
    HumanInputFormTimeout,
    HumanInputRequired,
    NodeFinished,
    TextChunk,
    WorkflowFinished,
    WorkflowPaused,
    WorkflowStarted,
)
from headrace_client.sse import Block, Decoder

from tests.sdk_contract.dify_server import Dify, cases, events_of, key_of
from tests.sdk_contract.serving import Running
from tests.sdk_python.clients import Fault, Maker, collect, plain
from tests.server.process import Serve

CASE = "02_template"
RUN = events_of(CASE)[0]["workflow_run_id"]
STREAMED = [name for name, path in cases().items() if (path / "response.stream.txt").exists()]
SSE = {"Content-Type": "text/event-stream"}


# ------------------------------------------------------------------------------------------------------------- recorded


@pytest.mark.parametrize("case", STREAMED)
async def test_streams_recorded_events_are_returned(make: Maker, dify: str, case: str) -> None:
    client = make(key_of(case), dify)
    chat = "_chat_" in case
    stream = client.stream_chat_message("hi") if chat else client.stream_workflow({"query": "hi"})
    events = await collect(stream)
    assert [plain(event) for event in events] == events_of(case)
    assert not any(event.synthesized for event in events)


async def test_streams_events_are_typed(make: Maker, dify: str) -> None:
    async with make(key_of(CASE), dify).stream_workflow({"query": "hi"}) as stream:
        events = await collect(stream)
    assert isinstance(events[0], WorkflowStarted)
    assert events[0].data.inputs["query"] == "hi"
    assert [event.data.node_id for event in events if isinstance(event, NodeFinished)] == ["start", "tpl", "end"]
    assert "".join(event.text for event in events) == stream.text == "Hello hi! 12"
    assert isinstance(events[4], TextChunk)
    assert isinstance(events[-1], WorkflowFinished)
    assert stream.run.outputs == events[-1].data.outputs == events[-1]["data"]["outputs"]
    assert (stream.run_id, stream.last_event) == (RUN, events[-1])


async def test_streams_first_event_during_the_run(make: Maker, headrace: Serve) -> None:
    client = make(headrace.keys["slow"], headrace.url, real_time=True)
    async with client.stream_workflow({"seconds": 20}) as stream:
        first = await anext(aiter(stream))
        assert first.event == "workflow_started"
        assert (await client.get_workflow_run(stream.run_id)).status == "running"
        await client.stop_workflow(stream.task_id)
        await stream.until_done()
    assert stream.run.status == "stopped"
    async with client.stream_workflow({"seconds": 0}) as stream:
        await stream.until_done()
    assert stream.run.outputs == {"done": "slept"}


def _stream(*payloads: dict[str, Any]) -> dict[str, Any]:
    """A step of the fault server: a stream of these events."""
    body = "".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads)
    return {"status": 200, "headers": SSE, "body": body}


def _event(name: str, **data: Any) -> dict[str, Any]:
    return {"event": name, "task_id": "t", "workflow_run_id": RUN, "data": data}


_FORM = {
    "form_id": "f",
    "node_id": "n",
    "node_title": "Review",
    "form_content": "Right?",
    "inputs": [{"type": "select", "output_variable_name": "p", "option_source": {"type": "constant", "value": ["a"]}}],
    "actions": [{"id": "approve", "title": "Approve", "button_style": "primary"}],
    "display_in_ui": False,
    "form_token": "secret",
    "resolved_default_values": {},
    "expiration_time": 1705494029,
}
_REQUIRED = _event("human_input_required", **_FORM)
_REASON = {"TYPE": "human_input_required", **_FORM, "form_token": None}
_PAUSED = _event("workflow_paused", paused_nodes=["n"], reasons=[_REASON], status="paused")
_FILLED = _event("human_input_form_filled", node_id="n", node_title="Review", action_id="approve", submitted_data={})
_FINISHED = _event("workflow_finished", id=RUN, status="succeeded", outputs={"a": 1})


async def test_streams_forms_are_typed(make: Maker, fault: Fault) -> None:
    timeout = _event("human_input_form_timeout", node_id="n", node_title="Review", expiration_time=1705494029)
    fault.script(_stream(_REQUIRED, _FILLED, timeout, _PAUSED))
    stream = make("app-x", fault.url).stream_workflow({})
    required, filled, over, paused = await collect(stream)
    assert isinstance(required, HumanInputRequired)
    assert (required.data.form_token, required.data.actions[0].id) == ("secret", "approve")
    assert required.data.inputs[0].options == ["a"]
    assert isinstance(filled, HumanInputFormFilled)
    assert (filled.data.action_id, filled.data.submitted_data) == ("approve", {})
    assert isinstance(over, HumanInputFormTimeout)
    assert over.data.expiration_time == 1705494029
    assert isinstance(paused, WorkflowPaused)
    assert (paused.data.reasons[0].TYPE, paused.data.reasons[0].form_token) == ("human_input_required", None)
    assert [plain(event) for event in (required, filled, over, paused)] == [_REQUIRED, _FILLED, timeout, _PAUSED]
    assert stream.run is None


async def test_streams_cut_while_paused_ends_with_the_pause(make: Maker, fault: Fault) -> None:
    detail = {"id": RUN, "workflow_id": "w", "status": "paused", "outputs": "{}"}
    fault.script(_stream(_event("workflow_started", id=RUN)), {"status": 200, "body": detail})
    events = await collect(make("app-x", fault.url).stream_workflow({}))
    assert [event.event for event in events] == ["workflow_started", "workflow_paused"]
    assert isinstance(events[1], WorkflowPaused)
    assert (events[1].synthesized, events[1].data.status, events[1].data.reasons) == (True, "paused", [])


async def test_runs_events_of_a_paused_run(make: Maker, fault: Fault) -> None:
    client = make("app-x", fault.url, user="abc")
    path = f"/v1/workflow/{RUN}/events"
    fault.script(_stream(_PAUSED))
    first = await collect(client.stream_workflow_events(RUN, include_state_snapshot=True))
    assert [event.event for event in first] == ["workflow_paused"]
    assert [(request["path"], request["query"]) for request in fault.requests] == [
        (path, {"user": "abc", "include_state_snapshot": "true"})
    ]

    resumable = _stream(_PAUSED, _FILLED)
    resumable["body"] += "id: 7\n\n"  # the server's position, after which the stream is cut
    fault.script(resumable, _stream(_FINISHED))
    stream = client.stream_workflow_events({"workflow_run_id": RUN}, continue_on_pause=True)
    events = await collect(stream)
    assert [event.event for event in events] == ["workflow_paused", "human_input_form_filled", "workflow_finished"]
    assert stream.run.outputs == {"a": 1}
    assert [request["query"] for request in fault.requests] == [{"user": "abc", "continue_on_pause": "true"}] * 2
    assert fault.requests[1]["headers"]["last-event-id"] == "7"


async def test_streams_unknown_events_pass_through(make: Maker, fault: Fault) -> None:
    payloads = [
        {"event": "from_the_future", "data": {"a": [1]}, "more": True},
        {"event": "text_chunk", "data": "of another form"},
        {"no": "event"},
        {"event": "workflow_finished", "workflow_run_id": "r", "data": {"id": "r", "status": "succeeded"}},
    ]
    lines = "".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads[:3]) + "data: no json\n\nevent: ping\n\n"
    lines += f"data: {json.dumps(payloads[3])}\n\n"
    fault.script({"status": 200, "headers": SSE, "body": lines})
    events = await collect(make("app-x", fault.url).stream_workflow({}))
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
    data = end.join(line.encode() for line in [*lines, "", "data: x", "", ""])
    decoder, blocks = Decoder(), list[Block]()
    for start in range(0, len(data), piece):
        blocks += decoder.feed(data[start : start + piece])
    assert blocks == [
        Block(None, b'{"a":\n1}', None),
        Block("ping", None, None),
        Block(None, None, "7"),
        Block(None, "é中".encode(), "8"),
        Block(None, b"x", None),
    ]


# ------------------------------------------------------------------------------------------------------------------ end


@pytest.mark.parametrize("how", ["block", "close", "drop"])
async def test_streams_closing_early_closes_the_connection(make: Maker, how: str) -> None:
    dify = Dify(pause=0.02)
    with Running(dify.app()) as server:
        client = make(key_of("19_chain20"), server.url, real_time=True)
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
        for _ in range(6000):
            if dify.closed.is_set():
                break
            await asyncio.sleep(0.01)
        assert dify.closed.is_set()


async def test_streams_status_error_before_the_stream(make: Maker, dify: str) -> None:
    with pytest.raises(ValidationError) as raised:
        await collect(make(key_of("30_chat_simple"), dify).stream_workflow({}))
    assert raised.value.code == "not_workflow_app"


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [("<html><title>Log in</title>", "text/html", "Log in"), ('{"message": "later"}', "application/json", "later")],
)
async def test_streams_that_are_none(make: Maker, fault: Fault, body: str, kind: str, words: str) -> None:
    """A proxy answers 200, with a page of its own."""
    for begin in ("stream_workflow", "create_workflow_run"):
        fault.script({"status": 200, "headers": {"Content-Type": kind}, "body": body})
        client = make("app-x", fault.url)
        with pytest.raises(ServerError, match=f"not an event stream.*{words}") as raised:
            await (
                client.stream_workflow({}).until_done() if begin == "stream_workflow" else client.create_workflow_run()
            )
        assert raised.value.status == 200


async def test_streams_that_cannot_be_decoded(make: Maker, fault: Fault) -> None:
    fault.script({"status": 200, "headers": {**SSE, "Content-Encoding": "gzip"}, "body": "this is not gzip"})
    with pytest.raises(StreamInterruptedError, match="before anything was known"):
        await make("app-x", fault.url).stream_workflow({}).until_done()


async def test_streams_go_on_after_their_last_word(make: Maker, fault: Fault) -> None:
    """Speech may follow message_end; a cut after it is no loss."""
    names = ["message", "message_end", "tts_message", "tts_message_end"]
    body = "".join(f'data: {{"event": "{name}", "answer": "a"}}\n\n' for name in names)
    for cut in (None, len(body)):
        fault.script({"status": 200, "headers": SSE, "body": body, "cut": cut})
        events = await collect(make("app-x", fault.url).stream_chat_message("hi"))
        assert [event.event for event in events] == names


async def test_streams_time_to_begin_is_not_the_time_of_silence(make: Maker) -> None:
    with Running(Dify(pause=2.5, pauses=1).app()) as server:
        events = await collect(make(key_of(CASE), server.url).stream_workflow({"query": "hi"}, timeout=2))
    assert [plain(event) for event in events] == events_of(CASE)


async def test_streams_error_event_is_returned(make: Maker, dify: str) -> None:
    events = await collect(make(key_of("32_chat_fail"), dify).stream_chat_message("hi"))
    assert events[-1].event == "error"
    assert events[-1].message.startswith("Run failed")


async def test_streams_event_without_an_end(make: Maker, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_MAX_BLOCK_SIZE", 1000)
    fault.script({"status": 200, "headers": SSE, "body": "data: " + "x" * 5000})
    with pytest.raises(StreamInterruptedError, match="more than"):
        await collect(make("app-x", fault.url).stream_workflow({}))


async def test_streams_silence_is_a_cut(make: Maker) -> None:
    with Running(Dify(pause=30).app()) as server:
        client = make(key_of(CASE), server.url, stream_silence=1)
        events = await collect(client.stream_workflow({"query": "hi"}))
    assert [event.event for event in events] == ["workflow_started", "workflow_finished"]
    assert events[-1].synthesized


def test_events_are_made_without_calls_of_python() -> None:
    """pydantic calls Python once for each model that has a private attribute, which is most of the time of an event."""
    assert [kind for kind in get_args(Event) if kind.__pydantic_post_init__ is not None] == []


async def test_copies_of_models_keep_the_response(make: Maker, dify: str) -> None:
    run = await make(key_of("02_template"), dify).run_workflow({"query": "hi"})
    assert run.model_copy().response is run.response
    assert run.response is not None
    assert pickle.loads(pickle.dumps(run)).response is None
