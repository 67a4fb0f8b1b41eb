"""The log of an agent: its shape in each strategy, what of large answers it repeats, and the steps that fail."""

from __future__ import annotations

from typing import Any

from headrace.adapters.models import ModelClient
from headrace.api.dify.run_events import START, RunEvents, StreamPosition
from headrace.kernel.events import Record, StepEnded
from headrace.node import Flow
from headrace.ports.services import TextMessage, ToolSpec
from tests.models.server import ModelServer, ReceivedRequest
from tests.nodes.agent.world import (
    TOOLS,
    action,
    agent_file,
    by_round,
    calls,
    constant,
    drive,
    loaded,
    react_by_round,
    says,
    tool,
)

RUN = "7d0e3d3a-3d52-4a6c-9b1f-1d0c5c1f7a11"
ROME = ("weather", {"city": "Rome"})


def events(flow: Flow, records: list[Record], after: StreamPosition = START) -> list[Any]:
    fold = RunEvents(RUN, flow, after)
    return [event for record in records for event in fold.feed(record._replace(run=RUN))]


def entries(outputs: Any) -> dict[str, Any]:
    return {entry["label"]: entry for entry in outputs["json"][:-1]}


async def test_the_shape_of_react(server: ModelServer, client: ModelClient):
    server.answer(react_by_round(action("weather", "Rome"), "Thought: I know.\nFinalAnswer: Warm."))
    ran = await drive(loaded(agent_file(tool("weather"), strategy="ReAct")), client)
    first, thought, call, last, answer = ran.outputs["json"][:-1]
    assert thought["data"] == {"thought": "I look.", "action": "weather", "action_input": {"city": "Rome"}}
    assert call["data"] == {"tool_name": "weather", "tool_call_args": {"city": "Rome"}, "output": "Rome: 20 C"}
    assert first["data"] == {
        "action_name": "weather",
        "action_input": {"city": "Rome"},
        "thought": "I look.",
        "observation": "Rome: 20 C",
    }
    assert answer["data"] == {"thought": "I know.", "action": "Warm."}
    assert last["data"] == {"action_name": "", "action_input": "", "thought": "I know.", "observation": ""}


async def test_the_limit_of_react_is_the_observation(server: ModelServer, client: ModelClient):
    server.answer(react_by_round(action("weather", "Rome")))
    ran = await drive(loaded(agent_file(tool("weather"), strategy="ReAct", maximum_iterations=constant(1))), client)
    assert ran.shelf.calls == []
    log = entries(ran.outputs)
    assert "limit is reached" in log["CALL weather"]["data"]["output"]
    assert log["ROUND 1"]["data"]["observation"] == log["CALL weather"]["data"]["output"]


async def test_a_large_answer_is_repeated_in_part(server: ModelServer, client: ModelClient, monkeypatch: Any):
    text = "x" * 200_000
    spec = ToolSpec("large", "Large", "Says much.")
    monkeypatch.setattr("tests.nodes.agent.world.TOOLS", {**TOOLS, "large": (lambda: [TextMessage(text)], spec)})
    server.answer(by_round(calls(*[("large", {})] * 4), says("Done.")))
    flow = loaded(agent_file(tool("large")))
    ran = await drive(flow, client)
    assert [message["content"] for message in server.requests[1].body["messages"][3:]] == [text] * 4
    log = entries(ran.outputs)
    assert log["CALL large"]["data"]["output"]["tool_response"] == text
    copies = [response["tool_response"] for response in log["ROUND 1"]["data"]["output"]["tool_responses"]]
    assert copies == [f"{text[:10_000]}... (190000 more characters)"] * 4
    stream = RunEvents(RUN, flow)
    size = sum(len(stream.encode(event)) for record in ran.records for event in stream.feed(record._replace(run=RUN)))
    assert size < 4 * len(text) * 2.5, "the stream has each answer when the call ends, and when the node does"
    results = [record.event.result for record in ran.records if isinstance(record.event, StepEnded)]
    assert sum(text in str(result) for result in results) == 4, "the journal has the answer of each call once"


async def test_steps_that_fail_are_logged_as_errors(server: ModelServer, client: ModelClient):
    async def fails(request: ReceivedRequest) -> None:
        await request.refuse(400, {"error": {"message": "no such model"}})

    server.answer(fails)
    flow = loaded(agent_file(tool("weather")))
    ran = await drive(flow, client)
    stream_events = events(flow, ran.records)
    log = [(event.data["label"], event.data["status"]) for event in stream_events if event.event == "agent_log"]
    assert log == [("ROUND 1", "start"), ("m Thought", "start"), ("m Thought", "error"), ("ROUND 1", "error")]
    finished = next(
        event.data for event in stream_events if event.event == "node_finished" and event.data["node_id"] == "agent"
    )
    assert "no such model" in finished["error"]
    ended = [event.data for event in stream_events if event.event == "agent_log" and event.data["status"] == "error"]
    assert {entry["error"] for entry in ended} == {finished["error"]}
    assert all(entry["metadata"]["elapsed_time"] >= 0 for entry in ended)
    assert [entry["status"] for entry in finished["execution_metadata"]["agent_log"]] == ["error", "error"]
    assert [event.event for event in stream_events][-4:] == [
        "agent_log",
        "agent_log",
        "node_finished",
        "workflow_finished",
    ]


async def test_a_retry_of_an_agent_begins_anew_and_logs_what_failed(server: ModelServer, client: ModelClient):
    async def fails(request: ReceivedRequest) -> None:
        await request.refuse(400, {"error": {"message": "not now"}})

    server.answer(by_round(calls(ROME)), fails, by_round(calls(ROME), says("Warm.")))
    retry = {"retry_config": {"retry_enabled": True, "max_retries": 1, "retry_interval": 0}}
    flow = loaded(agent_file(tool("weather"), data=retry))
    ran = await drive(flow, client)
    assert ran.outputs["text"] == "\nWarm."
    assert [context.key for _, context in ran.shelf.calls] == [
        "run/agent/0/round[1]/call[0]",
        "run/agent/1/round[1]/call[0]",
    ]
    stream_events = events(flow, ran.records)
    names = [event.event for event in stream_events if event.event in ("agent_log", "node_retry")]
    retried = names.index("node_retry")
    log = [event.data for event in stream_events if event.event == "agent_log"]
    assert [(entry["label"], entry["status"]) for entry in log[retried - 2 : retried]] == [
        ("m Thought", "error"),
        ("ROUND 2", "error"),
    ]
    assert {entry["id"] for entry in log[:retried]}.isdisjoint(entry["id"] for entry in log[retried:])
    assert len(entries(ran.outputs)) == 4, "the output has the steps of the last attempt"


async def test_a_stream_continues_after_any_event_of_a_failure(server: ModelServer, client: ModelClient):
    async def fails(request: ReceivedRequest) -> None:
        await request.refuse(400, {"error": {"message": "not now"}})

    server.answer(by_round(calls(ROME, text="Let me look.")), fails)
    retry = {"retry_config": {"retry_enabled": True, "max_retries": 1, "retry_interval": 0}}
    strategy = {"error_strategy": "default-value", "default_value": [{"key": "text", "type": "string", "value": "?"}]}
    flow = loaded(agent_file(tool("weather"), data={**retry, **strategy}))
    ran = await drive(flow, client)
    stream_events = events(flow, ran.records)
    assert sum(event.event == "agent_log" and event.data["status"] == "error" for event in stream_events) == 4
    for at, event in enumerate(stream_events):
        rest = events(flow, ran.records, event.position)
        assert [(item.event, item.data) for item in rest] == [
            (item.event, item.data) for item in stream_events[at + 1 :]
        ]


async def test_an_agent_starts_with_its_strategy(server: ModelServer, client: ModelClient):
    server.answer(by_round(says("Hi.")))
    flow = loaded(agent_file())
    ran = await drive(flow, client)
    stream_events = events(flow, ran.records)
    started = {
        event.data["node_id"]: event.data["agent_strategy"] for event in stream_events if event.event == "node_started"
    }
    assert started == {"start": None, "agent": {"name": "function_calling", "icon": None}, "answer": None}
