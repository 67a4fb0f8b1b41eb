"""Agents over the API: the log of an agent node, and the thoughts of an agent-chat app."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from headrace.adapters.models import ModelClient
from headrace.nodes import registry
from tests.api.chats import say, saying
from tests.api.serving import Event, Serving, serving
from tests.models.conftest import client, server
from tests.models.server import ModelServer, ReceivedRequest
from tests.nodes.agent.world import ToolShelf, agent_file, by_round, calls, chat_file, react_by_round, says, tool
from tests.nodes.agent.world import action as react_action
from tests.official import differs
from tests.official.described import ALL, SchemaCheck

__all__ = ["client", "server"]

ROME = ("weather", {"city": "Rome"})
ENVELOPE = ["event", "conversation_id", "message_id", "created_at", "task_id"]


@pytest.fixture
async def shelf() -> ToolShelf:
    return ToolShelf()


@pytest.fixture
async def headrace(tmp_path: Path, client: ModelClient, shelf: ToolShelf) -> AsyncGenerator[Serving]:
    async with serving(tmp_path, models=client, tools=shelf, registry=registry(())) as running:
        yield running


def described(operation: str, *events: Event) -> set[str]:
    """What the events have that Dify's official description of an operation does not allow."""
    problems_of, known = SchemaCheck(), next(item for item in ALL if item.name == operation)
    for event in events:
        problems_of.event(known.events(), event.body)
    return problems_of.problems - differs.of(operation)


def named(events: list[Event], *names: str) -> list[Event]:
    return [event for event in events if event.name in names]


# ------------------------------------------------------------------------------------------------------ the agent node


async def test_the_log_of_an_agent_node(headrace: Serving, server: ModelServer):
    server.answer(by_round(calls(ROME, text="Let me look."), says("It is ", "20 C.")))
    app = await headrace.add("a.yml", agent_file(tool("weather")))
    async with saying(app, "Weather?") as stream:
        events = await stream.rest()
    log = named(events, "agent_log")
    assert [(event.data["label"], event.data["status"]) for event in log] == [
        ("ROUND 1", "start"),
        ("m Thought", "start"),
        ("m Thought", "success"),
        ("CALL weather", "start"),
        ("CALL weather", "success"),
        ("ROUND 1", "success"),
        ("ROUND 2", "start"),
        ("m Thought", "start"),
        ("m Thought", "success"),
        ("ROUND 2", "success"),
    ]
    assert all(event.body["workflow_run_id"] == event.body["message_id"] for event in log)
    round1, thought, *_ = log
    assert thought.data["parent_id"] == round1.data["id"]
    assert log[5].data["id"] == round1.data["id"]
    [started] = [event for event in named(events, "node_started") if event.data["node_type"] == "agent"]
    assert {event.data["node_execution_id"] for event in log} == {started.data["id"]}
    [finished] = [event for event in named(events, "node_finished") if event.data["node_type"] == "agent"]
    metadata = finished.data["execution_metadata"]
    assert metadata["tool_info"] == {"agent_strategy": "function_calling", "icon": None}
    assert metadata["total_tokens"] == 42
    ended = [event.data for event in log if event.data["status"] == "success"]
    assert sorted(entry["id"] for entry in metadata["agent_log"]) == sorted(entry["id"] for entry in ended)
    entries = {entry["id"]: entry for entry in finished.data["outputs"]["json"][:-1]}
    for entry in ended:
        expected = {name: entry[name] for name in ("id", "parent_id", "label", "status", "data", "metadata", "error")}
        assert entries[entry["id"]] == {**expected, "node_id": "agent"}
    answer = "".join(event.body["answer"] for event in named(events, "message"))
    assert answer == "Let me look.\nIt is 20 C."
    _, page = await app.call("GET", f"/v1/messages?user=u1&conversation_id={events[0].body['conversation_id']}")
    assert [message["agent_thoughts"] for message in page["data"]] == [[]]


async def test_a_stream_of_an_agent_continues_after_any_event(headrace: Serving, server: ModelServer):
    server.answer(by_round(calls(ROME, text="Let me look."), says("It is ", "20 C.")))
    app = await headrace.add("a.yml", agent_file(tool("weather")))
    async with saying(app, "Weather?") as stream:
        events = await stream.rest()
    path = f"/v1/workflow/{events[0].body['message_id']}/events?user=u1"
    for at, event in enumerate(events[:-1]):
        async with app.stream(path, {"Last-Event-ID": str(event.id)}) as again:
            rest = await again.rest()
        logged = [(item.data["id"], item.data["status"]) for item in named(events[at + 1 :], "agent_log")]
        assert [(item.data["id"], item.data["status"]) for item in named(rest, "agent_log")] == logged


# ---------------------------------------------------------------------------------------------------------- agent-chat


async def test_the_thoughts_of_an_agent(headrace: Serving, server: ModelServer, shelf: ToolShelf):
    server.answer(by_round(calls(ROME, ("draw", {}), text="Let me look."), says("It is ", "20 F.")))
    app = await headrace.add("h.yml", chat_file("weather", "draw"))
    async with saying(app, "Weather?", inputs={"tone": "please"}) as stream:
        events = await stream.rest()
    assert [event.name for event in events] == [
        "agent_thought",
        "agent_message",
        "agent_thought",
        "message_file",
        "agent_message",
        "agent_thought",
        "agent_thought",
        "agent_message",
        "agent_message",
        "agent_thought",
        "message_end",
    ]
    thoughts = [event.body for event in named(events, "agent_thought")]
    assert [thought["position"] for thought in thoughts] == [1, 1, 1, 2, 2]
    assert len({thought["id"] for thought in thoughts}) == 2
    assert [*thoughts[0]] == [
        *ENVELOPE,
        "id",
        "position",
        "thought",
        "observation",
        "tool",
        "tool_labels",
        "tool_input",
        "message_files",
    ]
    begun, answered, observed = thoughts[:3]
    assert (begun["thought"], begun["tool"]) == ("", "")
    assert (answered["thought"], answered["tool"]) == ("Let me look.", "weather;draw")
    assert answered["tool_labels"]["weather"] == {"en_US": "Weather", "zh_Hans": "Weather"}
    assert json.loads(answered["tool_input"]) == {"weather": {"city": "Rome"}, "draw": {}}
    assert answered["observation"] == ""
    observation = json.loads(observed["observation"])
    assert observation["weather"] == "Rome: 20 F"
    [file] = named(events, "message_file")
    assert (file.body["type"], file.body["belongs_to"]) == ("image", "assistant")
    assert observed["message_files"] == [file.body["id"]]
    assert "".join(event.body["answer"] for event in named(events, "agent_message")) == "Let me look.\nIt is 20 F."
    assert events[-1].body["metadata"]["usage"]["total_tokens"] == 42
    assert server.requests[0].body["messages"][0] == {"role": "system", "content": "Be brief, please."}

    path = f"/v1/messages?user=u1&conversation_id={events[0].body['conversation_id']}"
    _, page = await app.call("GET", path)
    [message] = page["data"]
    assert message["answer"] == "Let me look.\nIt is 20 F."
    first, second = message["agent_thoughts"]
    assert first["observation"] == observed["observation"]
    assert (first["id"], first["files"]) == (observed["id"], [file.body["id"]])
    assert (second["thought"], second["tool"], second["message_id"]) == ("It is 20 F.", "", message["id"])
    assert [item["belongs_to"] for item in message["message_files"]] == ["assistant"]


async def test_two_calls_of_one_tool_are_both_shown(headrace: Serving, server: ModelServer):
    server.answer(by_round(calls(ROME, ("weather", {"city": "Oslo"})), says("Done.")))
    app = await headrace.add("h.yml", chat_file("weather"))
    async with saying(app, "Weather?") as stream:
        events = await stream.rest()
    thought = named(events, "agent_thought")[2].body
    assert thought["tool"] == "weather;weather"
    assert json.loads(thought["observation"]) == {"weather": "Rome: 20 F", "weather (2)": "Oslo: 20 F"}


async def test_the_last_round_of_a_chat_has_no_tools(headrace: Serving, server: ModelServer):
    server.answer(by_round(calls(ROME), says("Enough.")))
    app = await headrace.add("h.yml", chat_file("weather", max_iteration=1))
    status, body = await say(app, "Weather?")
    assert (status, body["answer"]) == (200, "Enough.")
    assert ["tools" in request.body for request in server.requests] == [True, False]


async def test_the_last_round_of_a_chat_in_react_has_no_tools(headrace: Serving, server: ModelServer):
    server.answer(react_by_round(react_action("weather", "Rome"), react_action("Final Answer", "Enough.")))
    app = await headrace.add("h.yml", chat_file("weather", strategy="react", model="my-own", max_iteration=1))
    status, body = await say(app, "Weather?")
    assert (status, body["answer"]) == (200, "Enough.")
    prompts = [request.body["messages"][0]["content"] for request in server.requests]
    assert ['"name": "weather"' in prompt for prompt in prompts] == [True, False]


async def test_a_chat_that_never_ends_fails(headrace: Serving, server: ModelServer):
    server.answer(by_round(calls(ROME)))
    app = await headrace.add("h.yml", chat_file("weather", max_iteration=1))
    status, body = await say(app, "Weather?")
    assert (status, body["code"]) == (400, "invalid_param")
    assert body["message"] == "The agent has not come to an answer in 1 iterations."


async def test_earlier_messages_are_remembered(headrace: Serving, server: ModelServer):
    server.answer(by_round(says("Hello.")))
    app = await headrace.add("h.yml", chat_file("weather"))
    _, first = await say(app, "Hi")
    await say(app, "Again", first["conversation_id"])
    texts = [message["content"] for message in server.requests[1].body["messages"]]
    assert texts == ["Be brief, .", "Hi", "Hello.", "Again"]


async def test_react_is_for_models_that_are_not_known_to_call_tools(headrace: Serving, server: ModelServer):
    server.answer(react_by_round(react_action("weather", "Rome"), react_action("Final Answer", "Warm.")))
    app = await headrace.add("h.yml", chat_file("weather", strategy="react", model="my-own"))
    async with saying(app, "Weather?") as stream:
        events = await stream.rest()
    assert "tools" not in server.requests[0].body
    assert [event.body["answer"] for event in named(events, "agent_message")] == ["Warm."]
    thoughts = [event.body for event in named(events, "agent_thought")]
    assert (thoughts[1]["thought"], thoughts[1]["tool"]) == ("I look.", "weather")
    server.requests.clear()
    server.answer(by_round(says("Hello.")))
    await say(await headrace.add("g.yml", chat_file("weather", strategy="react", model="gpt-4o")), "Hi")
    assert "tools" in server.requests[0].body


async def test_a_tool_that_is_missing_is_named(headrace: Serving):
    app = await headrace.add("h.yml", chat_file("nowhere"))
    status, body = await say(app, "Hi")
    assert (status, body["message"]) == (400, "there is no tool nowhere")


# ------------------------------------------------------------------------------------------- the official description


async def fails(request: ReceivedRequest) -> None:
    await request.refuse(400, {"error": {"message": "no such model"}})


@pytest.mark.parametrize("mode", ["succeeds", "fails"])
async def test_the_events_of_an_agent_node_are_as_described(headrace: Serving, server: ModelServer, mode: str):
    server.answer(
        by_round(calls(ROME, ("draw", {}), text="Look.")), by_round(says("Warm.")) if mode != "fails" else fails
    )
    app = await headrace.add("a.yml", agent_file(tool("weather"), tool("draw")))
    async with saying(app, "Weather?") as stream:
        events = await stream.rest()
    statuses = {event.data["status"] for event in named(events, "agent_log")}
    assert statuses == {"start", "success"} | ({"error"} if mode == "fails" else set())
    assert described("POST /chat-messages", *events) == set()


async def test_the_events_and_messages_of_an_agent_app_are_as_described(headrace: Serving, server: ModelServer):
    server.answer(by_round(calls(ROME, ("draw", {}), text="Look."), says("Warm.")))
    app = await headrace.add("h.yml", chat_file("weather", "draw"))
    async with saying(app, "Weather?") as stream:
        events = await stream.rest()
    assert {"agent_thought", "agent_message", "message_file", "message_end"} == {event.name for event in events}
    assert described("POST /chat-messages", *events) == set()
    _, page = await app.call("GET", f"/v1/messages?user=u1&conversation_id={events[0].body['conversation_id']}")
    problems_of, listed = SchemaCheck(), next(item for item in ALL if item.name == "GET /messages")
    problems_of.value(listed.answers[200]["application/json"], page)
    assert problems_of.problems <= differs.of("GET /messages")
    assert len(page["data"][0]["agent_thoughts"]) == 2
