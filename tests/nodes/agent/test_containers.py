"""Agents inside iterations and loops."""

from __future__ import annotations

from collections import Counter
from typing import Any

from headrace.adapters.models import ModelClient
from headrace.api.dify.run_events import RunEvents
from headrace.engine import Driver
from headrace.kernel.events import NodeSucceeded, RunEnded
from headrace.node import Flow
from tests.engine.nests import flow, iteration, loop, node, queued_record
from tests.engine.test_crash import Killed, Mortal
from tests.models.server import ModelServer, ReceivedRequest
from tests.nodes.agent.world import ToolShelf, agent_data, agent_world, calls, constant, says, tool

RUN = "7d0e3d3a-3d52-4a6c-9b1f-1d0c5c1f7a11"
CITIES = ["Rome", "Oslo", "Bern"]


async def looks(request: ReceivedRequest) -> None:
    """A model that calls the tool for the city that it is asked about, and then says what it answered."""
    messages = request.body["messages"]
    if messages[-1]["role"] == "tool":
        await request.stream(*says(f"In {messages[-1]['content']}."))
    else:
        await request.stream(*calls(("weather", {"city": messages[-1]["content"]})))


def over_cities(**data: Any) -> Flow:
    agent = agent_data(tool("weather"), query=constant("{{#i.item#}}"))
    inside = node("agent", inside="i")
    inside["data"] = agent
    nodes = [iteration("i", ("start", "items"), ("agent", "text"), **data), inside]
    return flow(nodes, "start>i i-start>agent i>end", {"texts": ("i", "output")})


async def test_in_an_iteration(server: ModelServer, client: ModelClient):
    server.answer(looks)
    shelf = ToolShelf()
    iterated = over_cities(is_parallel=True, parallel_nums=3)
    where = agent_world(client, shelf)
    await where.journal.append([queued_record(items=CITIES)])
    state = await Driver("run", iterated, where).drive()
    assert state.ended is not None
    assert state.ended.outputs["texts"] == [f"\nIn {city}: 20 C." for city in CITIES]
    assert state.ended.tokens == 3 * 42
    keys = sorted(context.key for _, context in shelf.calls)
    assert keys == [f"run/i[{round_}]/agent/0/round[1]/call[0]" for round_ in range(3)]
    stream = RunEvents(RUN, iterated)
    records = await where.journal.read("run")
    events = [event for record in records for event in stream.feed(record._replace(run=RUN))]
    log = [event.data for event in events if event.event == "agent_log"]
    assert len(log) == 3 * 2 * 5
    assert {entry["node_id"] for entry in log} == {"agent"}
    assert set(Counter(entry["id"] for entry in log).values()) == {2}, "each step has an id of its own"
    executions = {event.data["id"] for event in events if event.event == "node_started"}
    assert len({entry["node_execution_id"] for entry in log} & executions) == 3


async def test_in_a_loop(server: ModelServer, client: ModelClient):
    server.answer(looks)
    inside = node("agent", inside="l")
    inside["data"] = agent_data(tool("weather"), query=constant("Rome"))
    looped = flow([loop("l", 2), inside], "start>l l-start>agent l>end", {"text": ("agent", "text")})
    shelf = ToolShelf()
    where = agent_world(client, shelf)
    await where.journal.append([queued_record()])
    state = await Driver("run", looped, where).drive()
    assert state.ended is not None
    assert (state.ended.status, state.ended.tokens, len(shelf.calls)) == ("succeeded", 2 * 42, 2)
    ended = [r.event for r in await where.journal.read("run") if isinstance(r.event, NodeSucceeded)]
    assert [event.outputs["text"] for event in ended if event.path.endswith("/agent")] == ["\nIn Rome: 20 C."] * 2


async def test_a_crash_in_a_round_repeats_one_call_at_most(server: ModelServer, client: ModelClient):
    server.answer(looks)
    iterated = over_cities()
    for survives in range(200):
        server.requests.clear()
        shelf, mortal = ToolShelf(), Mortal(survives + 1)
        where = agent_world(client, shelf, mortal)
        await mortal.append([queued_record(items=CITIES[:2])])
        died = False
        try:
            await Driver("run", iterated, where).drive()
        except Killed:
            died = True
        mortal.left = -1
        await Driver("run", iterated, where).drive()
        ended = (await mortal.read("run"))[-1].event
        assert isinstance(ended, RunEnded)
        assert ended.outputs["texts"] == [f"\nIn {city}: 20 C." for city in CITIES[:2]]
        assert len(server.requests) + len(shelf.calls) - 4 - 2 <= 1
        if not died:
            return
    raise AssertionError("the run never ended")
