"""An agent node whose strategy runs in a plugin: what the strategy gets, and what comes of its messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.engine import Driver
from headrace.errors import NodeError
from headrace.kernel.events import Record, RunEnded, StepEnded, StepStarted
from headrace.kernel.response import ResponseStream
from headrace.ports.services import (
    STRATEGY,
    BlobMessage,
    JsonMessage,
    LogMessage,
    SourcesMessage,
    TextMessage,
    ToolContext,
    ToolMessage,
    ToolParameter,
    ToolReference,
    ToolSpec,
    UsageMessage,
    VariableMessage,
)
from headrace.stores.memory import MemoryJournal
from headrace.values import Value
from tests.engine.test_crash import Killed, Mortal
from tests.nodes.agent import world
from tests.nodes.agent.world import (
    PNG,
    Ran,
    ToolShelf,
    agent_file,
    agent_world,
    constant,
    drive,
    loaded,
    question,
    tool,
)

SPEC = ToolSpec(
    "acting",
    "Acting",
    parameters=(
        ToolParameter("model", "model-selector", required=True),
        ToolParameter("tools", "array[tools]"),
        ToolParameter("query"),
        ToolParameter("maximum_iterations", "number", default=3),
        ToolParameter("style", required=True, default="calm"),
    ),
)
USAGE = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3, "total_price": "0.5", "currency": "USD"}
MESSAGES: Sequence[ToolMessage] = [
    LogMessage("r1", "ROUND 1", "start"),
    LogMessage("c1", "CALL weather", "start", "r1"),
    TextMessage("It is "),
    LogMessage("c1", "CALL weather", "error", "r1", "no weather", {"output": "none"}),
    LogMessage("r1", "ROUND 1", "success", data={"output": "done"}, metadata={"provider": "p"}),
    TextMessage("warm."),
    BlobMessage(PNG, "image/png", "cat.png"),
    VariableMessage("mood", "sunny"),
    JsonMessage({"execution_metadata": {"total_tokens": 99}}),
    JsonMessage({"n": 1, "execution_metadata": {}}),
    UsageMessage(USAGE),
]


class Strategy:
    """A strategy that sends what a test says."""

    def __init__(self, messages: Sequence[ToolMessage] = MESSAGES, error: str = "") -> None:
        self.messages = messages
        self.error = error
        self.parameters: list[Mapping[str, Any]] = []

    def __call__(self, **parameters: Value) -> Sequence[ToolMessage]:
        self.parameters.append(parameters)
        if self.error:
            raise NodeError(self.error, "PluginInvokeError")
        return self.messages


@pytest.fixture
def strategy(monkeypatch: pytest.MonkeyPatch) -> Strategy:
    strategy = Strategy()
    monkeypatch.setitem(world.TOOLS, "acting", (strategy, SPEC))  # type: ignore[arg-type]
    return strategy


PROVIDER = {"agent_strategy_provider_name": "someone/acts/acts", "plugin_unique_identifier": "someone/acts:0.1"}


async def acted(client: ModelClient, *tools: Mapping[str, Value], **more: Value) -> Ran:
    return await drive(loaded(agent_file(*tools, strategy="acting", data=PROVIDER, **more)), client)


async def test_the_parameters_are_what_the_sdk_expects(client: ModelClient, strategy: Strategy) -> None:
    city_parameters = {"city": {"auto": 0, "value": constant("Rome")}}
    weather = tool(
        "weather", parameters=city_parameters, settings={"unit": {"value": "F"}}, extra={"description": "Ask."}
    )
    ran = await acted(client, weather, tool("broken", enabled=False), undeclared=constant("x"))
    (parameters,) = strategy.parameters
    assert parameters["query"] == "Weather in Rome?"
    assert (parameters["maximum_iterations"], parameters["style"]) == (5, "calm")
    assert parameters["undeclared"] is None
    model = parameters["model"]
    assert (model["provider"], model["model"], model["model_type"]) == ("langgenius/openai/openai", "m", "llm")
    assert model["history_prompt_messages"] == []
    assert "tool-call" in model["entity"]["features"]
    assert "context_size" not in model["entity"]["model_properties"]
    (entity,) = parameters["tools"]
    assert entity["identity"] == {"author": "", "name": "weather", "label": {"en_US": "Weather"}, "provider": "a"}
    assert entity["description"]["llm"] == "Ask."
    assert entity["runtime_parameters"] == {"city": "Rome", "unit": "F"}
    assert [(parameter["name"], parameter["form"]) for parameter in entity["parameters"]] == [
        ("city", "form"),
        ("unit", "form"),
    ]
    assert entity["provider_type"] == "builtin"
    assert ran.shelf.references[0].provider_type == STRATEGY
    assert ran.result.inputs["tools"] == ["weather"]


async def test_messages_become_outputs(client: ModelClient, strategy: Strategy) -> None:
    ran = await acted(client)
    outputs = ran.outputs
    assert (outputs["text"], outputs["mood"]) == ("It is warm.", "sunny")
    assert [file.filename for file in outputs["files"]] == ["cat.png"]
    assert (outputs["usage"], ran.result.usage) == (USAGE, USAGE)
    first, second, json = outputs["json"]
    assert json == {"n": 1}
    assert (first["label"], first["data"], first["parent_id"]) == ("ROUND 1", {"output": "done"}, None)
    assert first["metadata"]["provider"] == "p"
    assert (second["label"], second["parent_id"]) == ("CALL weather", first["id"])
    assert second["data"] == {"output": "none", "error": "no weather"}


async def test_a_strategy_that_says_nothing(client: ModelClient, strategy: Strategy) -> None:
    strategy.messages = [JsonMessage({"execution_metadata": {}})]
    ran = await acted(client)
    assert (ran.outputs["text"], ran.outputs["files"], ran.outputs["json"]) == ("", [], [{"data": []}])
    assert ran.outputs["usage"]["total_tokens"] == 0


async def test_a_strategy_that_fails(client: ModelClient, strategy: Strategy) -> None:
    strategy.error = "it broke"
    failure = (await acted(client)).failure
    assert (failure.error, failure.kind) == ("Failed to invoke agent: it broke", "PluginInvokeError")
    assert failure.inputs["query"] == "Weather in Rome?"


async def test_a_parameter_that_is_not_set(client: ModelClient, strategy: Strategy) -> None:
    failure = (await acted(client, model=constant(None))).failure
    assert "choose one" in failure.error or "is not set" in failure.error


async def test_logs_come_as_they_are_made(client: ModelClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log has begun in the journal while the strategy works; one that never ends, and one that is unlike that at its
    place before a crash, are logs of their own."""
    events: list[StepStarted | StepEnded] = []
    goes_on = asyncio.Event()

    class Watching(MemoryJournal):
        def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
            events.extend(record.event for record in records if isinstance(record.event, StepStarted | StepEnded))
            if any(isinstance(event, StepEnded) for event in events):
                goes_on.set()
            return super().append(records)

    class Slow:
        spec = SPEC

        async def call(self, parameters: Mapping[str, Value], context: ToolContext) -> AsyncIterator[ToolMessage]:
            yield LogMessage("r1", "ROUND 1", "start", metadata={"provider": "p"})
            yield LogMessage("c1", "CALL a", "start", "r1")
            yield LogMessage("c1", "CALL a", "success", "r1", data={"output": 1})
            async with asyncio.timeout(60):
                await goes_on.wait()
            yield LogMessage("c2", "CALL b", "start", "r1")

    async def find(shelf: ToolShelf, reference: ToolReference) -> Slow:
        return Slow()

    monkeypatch.setattr(ToolShelf, "find", find)
    ran = await drive(loaded(agent_file(strategy="acting", data=PROVIDER)), client, journal=Watching())
    assert [(type(event), event.name) for event in events] == [
        (StepStarted, ".strategy"),
        (StepStarted, "log[0]"),
        (StepStarted, "log[0]/log[0]"),
        (StepEnded, "log[0]/log[0]"),
        (StepStarted, "log[0]/log[1]"),
        (StepEnded, ".strategy"),
    ]
    logs = ran.outputs["json"][:3]
    assert [(log["label"], log["status"]) for log in logs] == [
        ("ROUND 1", "start"),
        ("CALL a", "success"),
        ("CALL b", "start"),
    ]
    assert logs[0]["metadata"]["provider"] == "p"


async def test_the_sources_of_a_strategy(client: ModelClient, strategy: Strategy) -> None:
    strategy.messages = [TextMessage("It is warm."), SourcesMessage([{"content": "c", "document_id": "d"}])]
    ran = await acted(client)
    assert ran.result.process == {"retriever_resources": [{"content": "c", "document_id": "d"}]}
    assert "sources" not in ran.outputs


async def test_a_crash_repeats_the_call_as_a_whole_and_only_if_it_had_not_ended(
    client: ModelClient, strategy: Strategy
) -> None:
    flow = loaded(agent_file(strategy="acting", data=PROVIDER))
    for survives in range(100):
        shelf, mortal = ToolShelf(), Mortal(survives + 1)
        where = agent_world(client, shelf, mortal)
        await mortal.append([question()])
        died = False
        try:
            await Driver("run", flow, where).drive()
        except Killed:
            died = True
        mortal.left = -1
        await Driver("run", flow, where).drive()
        records = await mortal.read("run")
        ended = records[-1].event
        assert isinstance(ended, RunEnded)
        done = Ran(list(records), shelf).result
        assert done.outputs["text"] == "It is warm."
        assert 1 <= len(shelf.calls) <= 2
        assert len({context.key for _, context in shelf.calls}) == 1
        steps = [record.event.name for record in records if isinstance(record.event, StepEnded)]
        assert sorted(steps) == [".strategy", "log[0]", "log[0]/log[0]"]
        response = ResponseStream(flow.graph)
        said = "".join(piece for record in records for piece, *_ in response.apply(record))
        assert said == ended.outputs["answer"]
        assert said.endswith("It is warm."), "text that was interrupted begins anew"
        if not died:
            assert said == "It is warm."
            assert len(shelf.calls) == 1
            return
    raise AssertionError("the run never ended")
