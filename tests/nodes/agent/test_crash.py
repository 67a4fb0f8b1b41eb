"""An agent whose process dies in the middle of an answer, and what a client sees of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
import yaml

from headrace.adapters.models import ModelClient
from headrace.api.dify.run_events import RunEvents
from headrace.engine import Driver
from headrace.kernel.events import Delta, NodeSucceeded, Record
from headrace.node import Flow
from headrace.stores.memory import MemoryJournal
from tests.models.server import ModelServer, ReceivedRequest, piece
from tests.nodes.agent.world import (
    MODEL,
    ToolShelf,
    agent_file,
    agent_world,
    by_round,
    calls,
    loaded,
    question,
    says,
    tool,
)

RUN = "7d0e3d3a-3d52-4a6c-9b1f-1d0c5c1f7a11"


class Watched(MemoryJournal):
    """Shows when it has a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.has_text = asyncio.Event()

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        if any(isinstance(record.event, Delta) and self._text in record.event.text for record in records):
            self.has_text.set()
        return super().append(records)


def with_model_only() -> Flow:
    """The same chatflow with an llm node."""
    file = yaml.safe_load(agent_file())
    model = {
        "type": "llm",
        "title": "LLM",
        "model": {**MODEL, "name": "m"},
        "prompt_template": [{"role": "user", "text": "?"}],
    }
    file["workflow"]["graph"]["nodes"][1]["data"] = model
    return loaded(yaml.safe_dump(file))


def text_of(flow: Flow, records: Sequence[Record]) -> str:
    """What a client sees that follows the run from its start to its end."""
    events = RunEvents(RUN, flow)
    stream_events = [event for record in records for event in events.feed(record._replace(run=RUN))]
    return "".join(event.data["text"] for event in stream_events if event.event == "text_chunk")


async def cut_off(request: ReceivedRequest) -> None:
    """An answer that begins, and never ends."""
    await request.head(**{"Content-Type": "text/event-stream"})
    await request.chunk(b"data: " + json.dumps(piece("It is ")).encode() + b"\n\n")
    await asyncio.Event().wait()


@pytest.mark.parametrize("agent", [True, False])
async def test_the_text_of_an_interrupted_answer_begins_anew_as_that_of_any_model(
    server: ModelServer, client: ModelClient, agent: bool
):
    """A model may write something else the second time, and what a client has seen cannot be taken back."""
    look = by_round(calls(("weather", {"city": "Rome"}), text="Let me look."))
    server.answer(*([look] if agent else []), cut_off, by_round(says("It is ", "20 C.")))
    flow = loaded(agent_file(tool("weather"))) if agent else with_model_only()
    journal, shelf = Watched("It is "), ToolShelf()
    where = agent_world(client, shelf, journal)
    await journal.append([question()])
    driving = asyncio.create_task(Driver("run", flow, where).drive())
    async with asyncio.timeout(60):
        await journal.has_text.wait()
    driving.cancel()
    await asyncio.wait((driving,))
    state = await Driver("run", flow, where).drive()
    before = "Let me look.\n" if agent else ""
    assert state.ended is not None
    assert state.ended.outputs["answer"] == f"{before}It is It is 20 C."
    assert text_of(flow, await journal.read("run")) == state.ended.outputs["answer"]
    ended = [record.event for record in await journal.read("run") if isinstance(record.event, NodeSucceeded)]
    assert ended[1].outputs["text"] == f"{before}It is 20 C."
    assert len(server.requests) == (3 if agent else 2), "no round that has ended is repeated"
    assert len(shelf.calls) == agent
