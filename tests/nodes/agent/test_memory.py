"""What agents remember of a conversation, and which images they see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.conversations.history import ConversationHistory
from headrace.kernel.events import NodeRetried, Record, RunEnded
from headrace.kernel.steps import Step
from headrace.nodes.agent.history import MOST_READ
from headrace.ports.services import Turn
from headrace.stores.memory import MemoryJournal
from headrace.values import File
from tests.models.server import ModelServer
from tests.nodes.agent.world import (
    MODEL,
    action,
    agent_file,
    by_round,
    calls,
    chat_file,
    constant,
    drive,
    loaded,
    question,
    react_by_round,
    says,
    tool,
)
from tests.nodes.llm_world import Conversation

TURNS = [Turn("one?", "one"), Turn("two?", "two"), Turn("three?", "three")]
SAID = ["one?", "one", "two?", "two", "three?", "three"]
IN_CONVERSATION = {"conversation_id": "c1"}
ROME = ("weather", {"city": "Rome"})
IMAGE = File("image", "remote_url", "a.png", ".png", "image/png", remote_url="http://f/a.png")


@dataclass
class History(Conversation):
    """Also has the journals of the runs that answered."""

    journal: MemoryJournal = field(default_factory=MemoryJournal)

    async def steps(self, run: str) -> Sequence[Step]:
        return await ConversationHistory(None, self.journal).steps(run)  # pyright: ignore[reportArgumentType]

    async def add(self, run: str, records: Sequence[Record], query: str) -> None:
        """Adds a turn that a run has answered."""
        await self.journal.append([record._replace(run=run) for record in records])
        ended = records[-1].event
        assert isinstance(ended, RunEnded)
        self.said = [*self.said, Turn(query, ended.outputs["answer"], run=run)]


def contents(server: ModelServer, request: int = 0) -> list[Any]:
    return [message["content"] or "" for message in server.requests[request].body["messages"][1:]]


# ------------------------------------------------------------------------------------------------------ the agent node


@pytest.mark.parametrize(
    ("memory", "limit"),
    [
        ({"window": {"enabled": True, "size": 2}}, 2),
        ({"window": {"enabled": False, "size": 2}}, 2),  # as in Dify, the size counts whether it is enabled or not
        ({"window": {"enabled": True, "size": 0}}, 500),
        ({"window": {"enabled": True, "size": None}}, 500),
        ({}, 500),
    ],
)
@pytest.mark.parametrize("strategy", ["function_calling", "ReAct"])
async def test_the_window(server: ModelServer, client: ModelClient, memory: Any, limit: int, strategy: str):
    server.answer(by_round(says("FinalAnswer: Hi.")))
    history = Conversation(TURNS)
    flow = loaded(agent_file(strategy=strategy, data={"memory": memory}))
    await drive(flow, client, question("four?", **IN_CONVERSATION), history=history)
    assert history.requests == [("c1", "run", limit)]
    assert contents(server) == [*SAID[-2 * limit :], "four?"]


@pytest.mark.parametrize(("data", "system"), [({}, IN_CONVERSATION), ({"memory": {}}, {}), ({"memory": None}, {})])
async def test_no_memory(server: ModelServer, client: ModelClient, data: Any, system: Any):
    server.answer(by_round(says("Hi.")))
    history = Conversation(TURNS)
    await drive(loaded(agent_file(data=data)), client, question("four?", **system), history=history)
    assert (history.requests, contents(server)) == ([], ["four?"])


async def test_memory_fits_into_the_context_window(server: ModelServer, client: ModelClient):
    server.answer(by_round(says("Hi.")))
    long = [Turn(f"{number} {'x' * 8000}", "y" * 8000) for number in range(5)]
    flow = loaded(agent_file(data={"memory": {}}, model=constant({**MODEL, "model": "gpt-4"})))
    await drive(flow, client, question("four?", **IN_CONVERSATION), history=Conversation(long))
    assert [text[:2] for text in contents(server)] == ["4 ", "yy", "fo"]


async def test_memory_comes_before_the_calls(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(ROME), says("Warm.")))
    flow = loaded(agent_file(tool("weather"), data={"memory": {}}))
    await drive(flow, client, question("four?", **IN_CONVERSATION), history=Conversation(TURNS))
    assert contents(server, 1) == [*SAID, "four?", "", "Rome: 20 C"]


# ---------------------------------------------------------------------------------------------------------- agent-chat


async def test_earlier_calls_are_replayed(server: ModelServer, client: ModelClient):
    flow, history = loaded(chat_file("weather")), History([])
    server.answer(by_round(calls(ROME, ("broken", "{"), text="Let me look."), says("Warm.")))
    ran = await drive(flow, client, question("Rome?", **IN_CONVERSATION), history=history)
    await history.add("r1", ran.records, "Rome?")
    history.said = [*history.said, Turn("Thanks?", "Sure.")]
    server.requests.clear()
    server.answer(by_round(says("Bye.")))
    await drive(flow, client, question("Bye?", **IN_CONVERSATION), history=history)
    user, called, first, second, answer, *rest = server.requests[0].body["messages"][1:]
    assert (user["role"], user["content"]) == ("user", "Rome?")
    assert called["content"] == "Let me look."
    assert [call["function"]["arguments"] for call in called["tool_calls"]] == ['{"city": "Rome"}', "{}"]
    assert [call["id"] for call in called["tool_calls"]] == [first["tool_call_id"], second["tool_call_id"]]
    assert first["content"] == "Rome: 20 F"
    assert second["content"] == "there is not a tool named broken"
    assert (answer["role"], answer["content"]) == ("assistant", "Warm.")
    assert [message["content"] for message in rest] == ["Thanks?", "Sure.", "Bye?"]


async def test_earlier_actions_of_react_are_replayed(server: ModelServer, client: ModelClient):
    flow, history = loaded(chat_file("weather", strategy="react", model="my-own")), History([])
    server.answer(react_by_round(action("weather", {"city": "Rome"}), action("Final Answer", "Warm.")))
    ran = await drive(flow, client, question("Rome?", **IN_CONVERSATION), history=history)
    await history.add("r1", ran.records, "Rome?")
    server.requests.clear()
    await drive(flow, client, question("Bye?", **IN_CONVERSATION), history=history)
    assert contents(server)[:3] == [
        "Rome?",
        'Thought: I look.\n\nAction: {"action": "weather", "action_input": {"city": "Rome"}}\n\n'
        "Observation: Rome: 20 F\n\nFinal Answer: Warm.",
        "Bye?",
    ]


async def test_calls_that_do_not_fit_are_left_out_the_oldest_first(server: ModelServer, client: ModelClient):
    flow, history = loaded(chat_file("weather", model="gpt-4")), History([])
    for number in range(3):
        city = str(number) * 12_000  # a few of these fill 8,192 tokens
        server.answer(by_round(calls(("weather", {"city": city})), says(f"Warm {number}.")))
        ran = await drive(flow, client, question("?", **IN_CONVERSATION), history=Conversation([]))
        await history.add(f"r{number}", ran.records, "?")
    server.requests.clear()
    server.answer(by_round(says("Bye.")))
    await drive(flow, client, question("Bye?", **IN_CONVERSATION), history=history)
    said = [content[:6] for content in contents(server)]
    assert said == ["?", "Warm 0", "?", "Warm 1", "?", "", "222222", "Warm 2", "Bye?"]


@pytest.mark.parametrize("end", ["stopped", "retention", "retried"])
async def test_a_message_without_its_steps_is_remembered_as_text(server: ModelServer, client: ModelClient, end: str):
    flow, history = loaded(chat_file("weather")), History([])
    server.answer(by_round(calls(ROME), says("Warm.")))
    ran = await drive(flow, client, question("Rome?", **IN_CONVERSATION), history=history)
    ended = next(at for at, record in enumerate(ran.records) if getattr(record.event, "name", "") == "round[2]")
    match end:
        case "stopped":  # in the middle of the last round
            records = [*ran.records[: ended + 1], ran.records[-1]]
        case "retention":
            records = []
        case _:
            retried = Record("run", 1, 0.0, NodeRetried("llm", 1, "no", "No"))
            records = [*ran.records[:-3], retried]
    await history.journal.append([item._replace(run="r1", seq=at) for at, item in enumerate(records, 1)])
    history.said = [Turn("Rome?", "Warm", run="r1")]
    server.requests.clear()
    await drive(flow, client, question("Bye?", **IN_CONVERSATION), history=history)
    assert contents(server)[:3] == ["Rome?", "Warm", "Bye?"]


async def test_no_more_than_the_last_journals_are_read(server: ModelServer, client: ModelClient):
    read: list[str] = []

    class Long(History):
        async def steps(self, run: str) -> Sequence[Step]:
            read.append(run)
            return ()

    turns = [Turn("?", "!", run=f"r{number}") for number in range(MOST_READ + 10)]
    server.answer(by_round(says("Bye.")))
    await drive(loaded(chat_file("weather")), client, question("Bye?", **IN_CONVERSATION), history=Long(turns))
    assert read == [f"r{number}" for number in range(MOST_READ + 9, 9, -1)]
    assert contents(server) == [*["?", "!"] * (MOST_READ + 10), "Bye?"]


VISION = {"file_upload": {"enabled": True, "image": {"enabled": True, "detail": "high"}}}


async def test_images_of_a_chat_are_shown_once(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(ROME), says("Warm.")))
    flow = loaded(chat_file("weather", config=VISION))
    history = Conversation([Turn("This?", "A cat.", [IMAGE])])
    await drive(flow, client, question("Rome?", files=[IMAGE], **IN_CONVERSATION), history=history)
    first = contents(server)
    assert [part["type"] for part in first[2]] == ["image_url", "text"]
    assert first[2][0]["image_url"] == {"url": "http://f/a.png", "detail": "high"}
    assert [part["type"] for part in first[0]] == ["image_url", "text"]
    assert contents(server, 1)[:3] == ["[image]\nThis?", "A cat.", "[image]\nRome?"]


async def test_images_of_react_are_shown_in_every_round(server: ModelServer, client: ModelClient):
    server.answer(
        react_by_round(action("weather", {"city": "Rome"})),
        react_by_round(action("Final Answer", "Warm.")),
    )
    flow = loaded(chat_file("weather", strategy="react", model="my-own", config=VISION))
    await drive(flow, client, question("Rome?", files=[IMAGE]))
    assert [[part["type"] for part in contents(server, number)[0]] for number in (0, 1)] == [["image_url", "text"]] * 2


async def test_files_are_not_sent_where_vision_is_off(server: ModelServer, client: ModelClient):
    server.answer(by_round(says("Hi.")))
    await drive(loaded(chat_file("weather")), client, question("Rome?", files=[IMAGE]))
    assert "a.png" not in json.dumps(server.requests[0].body)
