"""What may happen to the calls of an agent, in both strategies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.ports.services import TextMessage, ToolMessage, ToolParameter, ToolSpec
from headrace.values import File, Value
from tests.models.server import ModelServer
from tests.nodes.agent.world import (
    TOOLS,
    Ran,
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

both = pytest.mark.parametrize("strategy", ["function_calling", "ReAct"])
ROME = ("weather", {"city": "Rome"})
OSLO = ("weather", {"city": "Oslo"})
Calls = Sequence[tuple[str, Any]]


def trip(start: str = "", to: str = "") -> Sequence[ToolMessage]:
    return [TextMessage(f"from {start} to {to}")]


@pytest.fixture(autouse=True)
def trips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a tool with several parameters."""
    spec = ToolSpec("trip", "Trip", "Plans a trip.", [ToolParameter("start"), ToolParameter("to")])
    monkeypatch.setitem(TOOLS, "trip", (trip, spec))  # type: ignore[arg-type]


async def run(
    server: ModelServer, client: ModelClient, strategy: str, *rounds: Calls | str, limit: int = 5
) -> tuple[Ran, list[str]]:
    """An agent whose model makes these calls, or answers with the text; and what the model reads of their results."""
    if strategy == "ReAct":
        server.answer(react_by_round(*(map(_written, rounds))))
    else:
        server.answer(by_round(*(says(part) if isinstance(part, str) else calls(*part) for part in rounds)))
    file = agent_file(*map(tool, TOOLS), strategy=strategy, maximum_iterations=constant(limit))
    ran = await drive(loaded(file), client)
    messages = server.requests[-1].body["messages"]
    if strategy == "ReAct":
        scratch = "".join(message["content"] for message in messages if message["role"] == "assistant")
        return ran, re.findall(r"Observation: (.*?)\n\n(?=Thought:|$)", scratch, re.DOTALL)
    return ran, [message["content"] for message in messages if message["role"] == "tool"]


def _written(round_: Calls | str) -> str:
    return f"FinalAnswer: {round_}" if isinstance(round_, str) else "".join(action(*call) for call in round_)


def cities(ran: Ran) -> list[Value]:
    return [parameters["city"] for parameters, _ in ran.shelf.calls]


@both
async def test_parallel_calls(server: ModelServer, client: ModelClient, strategy: str):
    """ReAct has one call at a time: what the model writes after the first one is not read."""
    ran, results = await run(server, client, strategy, [ROME, OSLO], "Done.")
    expected = ["Rome"] if strategy == "ReAct" else ["Rome", "Oslo"]
    assert cities(ran) == expected
    assert results == [f"{city}: 20 C" for city in expected]
    assert ran.outputs["text"].strip() == "Done."


@both
@pytest.mark.parametrize(
    ("call", "result"),
    [
        (("trip", "somewhere warm"), "tool parameters validation error: the arguments are not valid JSON"),
        (("trip", "[1]"), "tool parameters validation error: the arguments are not a JSON object"),
        (("nothing", {}), "there is not a tool named nothing"),
        (("broken", {}), "tool invoke error: the server is away"),
        (("defective", {}), "tool invoke error: IndexError: list index out of range"),
        (("trip", {"start": "Rome", "to": "Oslo"}), "from Rome to Oslo"),
        (("trip", '{"start": "Rome", "to": "Oslo"}'), "from Rome to Oslo"),
        (("mixed", {}), 'ab\ntool response: {"n": 1}.\nThe result is at this link: https://example.com/x.'),
    ],
)
async def test_what_a_call_leads_to(
    server: ModelServer, client: ModelClient, strategy: str, call: tuple[str, Any], result: str
):
    ran, (seen,) = await run(server, client, strategy, [call], "Sorry.")
    assert seen.startswith(result)
    assert ran.outputs["text"].strip() == "Sorry."


@both
async def test_an_image(server: ModelServer, client: ModelClient, strategy: str):
    ran, (seen,) = await run(server, client, strategy, [("draw", {})], "There.")
    assert seen.startswith("Drawn.\nAn image was created")
    assert [isinstance(file, File) and file.filename for file in ran.outputs["files"]] == ["cat.png"]


@both
@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_a_loop_without_end(server: ModelServer, client: ModelClient, strategy: str, limit: int):
    """With a limit of one, function calling makes the calls, and what they result in is the text."""
    ran, _ = await run(server, client, strategy, [ROME], limit=limit)
    assert len(server.requests) == limit
    expected = 1 if (strategy, limit) == ("function_calling", 1) else limit - 1
    assert cities(ran) == ["Rome"] * expected
    *_, last = (entry for entry in ran.outputs["json"] if entry.get("label") == "CALL weather")
    refused = "limit is reached" in json.dumps(last["data"])
    assert refused == ((strategy, limit) != ("function_calling", 1))
    text = f"The maximum number of iterations ({limit}) is reached without an answer."
    if strategy == "function_calling":
        text = "\nRome: 20 C" if limit == 1 else "\n" * limit
    assert ran.outputs["text"] == text
