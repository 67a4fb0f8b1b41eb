"""A plugin that is built on Dify's SDK, installed from the package index: what it does comes to the host."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.adapters.plugins.install import PluginInstaller
from headrace.adapters.plugins.installed import InstalledPlugins
from headrace.adapters.plugins.interpreter import find_interpreter
from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.tools import ToolCalls, ToolRegistry
from headrace.errors import HeadraceError, NodeError
from headrace.ports.services import (
    BlobChunkMessage,
    ImageMessage,
    JsonMessage,
    LinkMessage,
    LogMessage,
    TextMessage,
    Tool,
    ToolReference,
    VariableMessage,
)
from tests.plugins.fakes import answer as text_of
from tests.plugins.fakes import messages, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
SDK = Path(__file__).parent / "sdk"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tools(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> AsyncGenerator[tuple[Tool, Plugins]]:
    """The plugin's tool. It stays installed for further sessions, because that takes several seconds."""
    if not (interpreter := find_interpreter("", os.environ)).runs_locks:
        pytest.skip(f"NO PLUGIN OF THE SDK IS TESTED: it needs Python 3.12, and there is only {interpreter}")
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("plugins")
    installer = PluginInstaller(InstalledPlugins(folder), [], "", os.environ, lambda message: None)
    try:
        plugin = await asyncio.to_thread(installer.add, SDK, unsigned=True)
    except HeadraceError as error:
        pytest.skip(f"NO PLUGIN OF THE SDK IS TESTED: it cannot be installed: {error}")
    async with running(tmp_path_factory.mktemp("sdk"), {}, folder) as (tools, plugins):
        plugins.handlers["tool"] = ToolCalls(ToolRegistry({"plugin": tools}))
        yield await tools.find(ToolReference("plugin", "tests/sdk/sdk", "SDK", "act", str(plugin.id))), plugins


@pytest.fixture
def tool(tools: tuple[Tool, Plugins]) -> Tool:
    return tools[0]


@pytest.fixture
def plugins(tools: tuple[Tool, Plugins]) -> Plugins:
    return tools[1]


async def test_messages(tool: Tool) -> None:
    start, text, json_, link, image, *chunks, variable, stream, end = await messages(tool, "messages")
    assert isinstance(start, LogMessage)
    assert isinstance(end, LogMessage)
    assert (start.id, start.status, start.data) == (end.id, "start", {"a": 1})
    assert (end.label, end.status) == ("step", "success")
    assert [text, json_, link, image] == [
        TextMessage("text é"),
        JsonMessage({"a": [1, None]}),
        LinkMessage("https://link.example"),
        ImageMessage("https://image.example"),
    ]
    assert [variable, stream] == [VariableMessage("v", {"b": 2}), VariableMessage("s", "piece", stream=True)]
    pieces = [chunk for chunk in chunks if isinstance(chunk, BlobChunkMessage)]
    assert len(pieces) == len(chunks) == 4
    assert b"".join(piece.data for piece in pieces) == b"\x00\x01" * 10_000
    assert (pieces[-1].end, pieces[-1].total_length, pieces[-1].mime_type) == (True, 20_000, "image/png")


async def test_a_file(tool: Tool, plugins: Plugins) -> None:
    file = await plugins.stored_files.save(b"content", filename="a b.md", mime_type="text/markdown")
    assert await text_of(tool, "file", file=file) == "a b.md document 7"


async def test_calls_back(tool: Tool, plugins: Plugins) -> None:
    assert await text_of(tool, "storage") == "False"
    (uploaded,) = await messages(tool, "upload")
    assert isinstance(uploaded, JsonMessage)
    assert (uploaded.value["name"], uploaded.value["size"], uploaded.value["type"]) == ("a.txt", 7, "document")
    _, path = await plugins.stored_files.open(uploaded.value["id"])
    assert path.read_bytes() == b"content"
    assert await text_of(tool, "tool") == "text é"


@pytest.mark.parametrize(
    ("do", "problem"),
    [("fail", "ValueError, error details: no luck"), ("summary", "you need to enable llm access in plugin manifest")],
)
async def test_errors(tool: Tool, do: str, problem: str) -> None:
    with pytest.raises(NodeError, match=problem):
        await messages(tool, do)


async def test_a_hundred_calls_at_once(tool: Tool) -> None:
    assert await asyncio.gather(*(text_of(tool, "wait") for _ in range(100))) == ["waited"] * 100
