"""Calls that a node's plugin makes back, as steps of the node: which are in the journal, and what is not repeated."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from headrace.adapters.plugins import backwards
from headrace.adapters.plugins.backwards import Caller
from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.tools import ToolRegistry
from headrace.adapters.tools.plugins import PluginTools, ToolCalls
from headrace.errors import HeadraceError
from headrace.kernel.steps import NO_METADATA, Step
from headrace.ports.services import TextMessage, Tool, UsageMessage
from headrace.values import Value
from tests.plugins.fakes import CONTEXT, find, install, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Journal:
    """The steps of a node that is run again and again."""

    def __init__(self) -> None:
        self.results: dict[str, Value] = {}
        self.labels: list[str] = []

    async def __call__(
        self,
        name: str,
        function: Callable[[], Awaitable[Value]],
        *,
        label: str = "",
        metadata: Mapping[str, Value] = NO_METADATA,
    ) -> Step:
        self.labels.append(label)
        if name not in self.results:
            self.results[name] = json.loads(json.dumps(await function()))
        return Step(name, None, name, label, metadata, 0.0, 1.0, self.results[name])


class Answering:
    """A handler of calls, which counts them by their request."""

    def __init__(self) -> None:
        self.requests: list[Value] = []
        self.keys: list[str] = []

    async def __call__(
        self, plugin: InstalledPlugin, request: Mapping[str, Value], caller: Caller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        self.requests.append(request["ask"])
        self.keys.append(caller.context.key)
        if request.get("fail"):
            raise HeadraceError("no luck")
        caller.on_usage({"total_tokens": 7})
        for answer in request.get("answers", [{"number": len(self.requests)}]):
            yield answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plugins(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[PluginTools, Plugins]]:
    folder = tmp_path_factory.mktemp("plugins")
    install(folder)
    async with running(folder) as (tools, plugins):
        plugins.handlers["tool"] = ToolCalls(ToolRegistry({"plugin": tools}))
        yield tools, plugins


@pytest.fixture
def handler(plugins: tuple[PluginTools, Plugins]) -> Answering:
    handler = plugins[1].handlers["text_embedding"] = Answering()
    return handler


@pytest_asyncio.fixture(loop_scope="module")
async def tool(plugins: tuple[PluginTools, Plugins]) -> Tool:
    return await find(plugins[0])


async def call(
    tool: Tool, journal: Journal, type_: str = "text_embedding", /, **request: Value
) -> tuple[Any, list[Any]]:
    """(the answers that the plugin gets, the usages that are counted)."""
    parameters: dict[str, Value] = {"do": "call back", "type": type_, "request": request}
    messages = [message async for message in tool.call(parameters, replace(CONTEXT, step=journal))]
    (text,) = (message.text for message in messages if isinstance(message, TextMessage))
    return json.loads(text), [message.usage for message in messages if isinstance(message, UsageMessage)]


async def test_a_call_that_is_in_the_journal_is_answered_from_there(tool: Tool, handler: Answering) -> None:
    journal = Journal()
    first = await call(tool, journal, ask="a")
    assert first == ([{"number": 1}], [{"total_tokens": 7}])
    assert await call(tool, journal, ask="a") == first, "the usage counts again: the node is run again"
    assert await call(tool, journal, ask="b") == ([{"number": 2}], [{"total_tokens": 7}])
    assert handler.requests == ["a", "b"]
    assert journal.labels == ["text_embedding"] * 3
    assert handler.keys == [f"run/n/0/{name}" for name in journal.results]


async def test_equal_calls_of_one_run_of_the_node_are_calls_of_their_own(tool: Tool, handler: Answering) -> None:
    journal = Journal()
    parameters = {"do": "call back", "type": "text_embedding", "request": {"ask": "a"}, "times": 3}
    for _ in range(2):
        _ = [message async for message in tool.call(parameters, replace(CONTEXT, step=journal))]
    assert handler.requests == ["a"] * 3
    assert [name[-3:] for name in journal.results] == ["-1]", "-2]", "-3]"]


async def test_a_call_that_failed_is_made_again(tool: Tool, handler: Answering) -> None:
    journal = Journal()
    for _ in range(2):
        assert await call(tool, journal, ask="a", fail=True) == ([{"error": "no luck"}], [])
    assert handler.requests == ["a", "a"]
    assert journal.results == {}


async def test_a_call_whose_answer_is_too_large_for_the_journal_is_made_again(
    tool: Tool, handler: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backwards, "LARGEST_JOURNALED", 100)
    journal, large = Journal(), [{"text": "x" * 100}]
    for _ in range(2):
        assert await call(tool, journal, ask="a", answers=large) == (large, [{"total_tokens": 7}])
    assert [*journal.results.values()] == [None]


async def test_chunks_of_a_model_are_one_in_the_journal(tool: Tool, handler: Answering) -> None:
    def chunk(text: str, index: int, calls: Value = (), opaque: Value = None, usage: Value = None) -> Value:
        message = {"role": "assistant", "content": text, "tool_calls": [*calls], "opaque_body": opaque}
        return {"model": "m", "delta": {"index": index, "message": message, "usage": usage}}

    journal = Journal()
    chunks = [chunk("a", 0), chunk("b", 1, ["c1"], {"c1": "x"}), chunk("", 2, ["c2"], usage={"total_tokens": 7})]
    assert (await call(tool, journal, ask="a", answers=chunks))[0] == chunks, "they come as they are made"
    again, _ = await call(tool, journal, ask="a", answers=chunks)
    assert again == [chunk("ab", 0, ["c1", "c2"], {"c1": "x"}, {"total_tokens": 7})]


async def test_calls_of_storage_are_not_in_the_journal(tool: Tool) -> None:
    journal = Journal()
    await call(tool, journal, "storage", opt="set", key="k", value="00")
    assert await call(tool, journal, "storage", opt="get", key="k") == ([{"data": "00"}], [])
    assert journal.results == {}


async def test_calls_inside_a_call_are_inside_its_step(tool: Tool, handler: Answering) -> None:
    journal = Journal()
    inner = {"do": "call back", "type": "text_embedding", "request": {"ask": "a"}}
    request = {"tool_type": "builtin", "provider": "tests/fake/fake", "tool": "act", "tool_parameters": inner}
    await call(tool, journal, "tool", **request)
    inside, outside = journal.results
    assert outside.startswith(".back[tool-")
    assert inside.startswith(f"{outside}/.back[text_embedding-")
    assert handler.keys == [f"run/n/0/{inside}"]
