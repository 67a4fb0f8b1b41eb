"""A plugin that is built on Dify's SDK, installed from the package index: what it does comes to the host."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.adapters.plugins.backwards import Caller
from headrace.adapters.plugins.endpoints import PluginEndpoints
from headrace.adapters.plugins.install import PluginInstaller
from headrace.adapters.plugins.installed import InstalledPlugin, InstalledPlugins
from headrace.adapters.plugins.interpreter import find_interpreter
from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.tools import ToolCalls, ToolRegistry
from headrace.errors import HeadraceError, NodeError
from headrace.ports.plugins import EndpointRequest
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
from headrace.values import Value
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


class Answering:
    """Answers calls back with `answers`, and keeps the requests."""

    def __init__(self, *answers: Mapping[str, Value]) -> None:
        self.answers = answers
        self.requests: list[Mapping[str, Value]] = []

    async def __call__(
        self, plugin: InstalledPlugin, request: Mapping[str, Value], caller: Caller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        self.requests.append(request)
        for answer in self.answers:
            yield answer


async def test_a_node(tool: Tool, plugins: Plugins) -> None:
    answer = {"inputs": {"query": "q"}, "outputs": {"class_id": "1"}, "process_data": {}}
    nodes = plugins.handlers["node_question_classifier"] = Answering(answer)
    (message,) = await messages(tool, "classify")
    assert message == JsonMessage(answer)
    (request,) = nodes.requests
    assert (request["classes"], request["query"], request["instruction"]) == ([{"id": "1", "name": "a"}], "q", "i")
    assert (request["model"]["provider"], request["model"]["name"], request["model"]["mode"]) == ("p", "m", "chat")


async def test_an_endpoint_that_calls_an_app(plugins: Plugins, tmp_path: Path) -> None:
    apps = plugins.handlers["app"] = Answering({"event": "message", "answer": "a"}, {"event": "message", "answer": "é"})
    (tmp_path / "hooks.yaml").write_text("hook: {plugin: tests/sdk, settings: {app: support}}")
    endpoints = PluginEndpoints(plugins, tmp_path / "hooks.yaml", {})
    headers = [("host", "x.example"), ("content-type", "text/plain"), ("accept", "*/*")]
    url = "https://x.example/e/hook/ask/ann?q=1"
    response = await endpoints.call("hook", EndpointRequest("POST", "/ask/ann?q=1", url, headers, "hé".encode()))
    assert (response.status, dict(response.headers)["X-Name"]) == (202, "ann")
    assert [piece async for piece in response.body] == [b"", b"a", "é".encode()]
    (request,) = apps.requests
    assert (request["app_id"], request["query"], request["inputs"]) == ("support", "hé", {"q": "1"})
    assert request["response_mode"] == "streaming"
    nowhere = await endpoints.call("hook", EndpointRequest("GET", "/nowhere", url, headers, b""))
    await nowhere.body.aclose()
    assert nowhere.status == 404


async def test_two_hundred_calls_at_once(tool: Tool) -> None:
    assert await asyncio.gather(*(text_of(tool, "wait") for _ in range(200))) == ["waited"] * 200
