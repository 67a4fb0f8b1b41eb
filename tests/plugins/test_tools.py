"""The tools of plugins: what is known of them without starting anything, their messages, their files."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.tools.plugins import PluginTools
from headrace.errors import NodeError
from headrace.ports.services import (
    BlobChunkMessage,
    FileMessage,
    SourcesMessage,
    TextMessage,
    ToolReference,
    VariableMessage,
)
from headrace.values import File, Variable
from tests.plugins.fakes import answer, find, install, messages, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plugins(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[PluginTools, Plugins]]:
    folder = tmp_path_factory.mktemp("plugins")
    install(folder)
    async with running(folder) as (tools, plugins):
        yield tools, plugins


def reference(provider: str = "tests/fake/fake", tool: str = "act", plugin: str = "") -> ToolReference:
    return ToolReference("plugin", provider, provider, tool, plugin)


async def test_what_is_known_without_starting_it(tmp_path: Path) -> None:
    install(tmp_path)
    async with running(tmp_path) as plugins:
        await knows_its_tools(plugins)


async def knows_its_tools(plugins: tuple[PluginTools, Plugins]) -> None:
    specs = await plugins[0].specs()
    assert {name: [spec.name for spec in tools] for name, tools in specs.items()} == {
        "tests/fake/fake": ["act", "dynamic"]
    }
    tool = await plugins[0].find(reference())
    assert [(parameter.name, parameter.type) for parameter in tool.spec.parameters] == [
        ("do", "string"),
        ("files", "files"),
    ]
    assert plugins[0].missing(reference()) is None
    assert "host" not in vars(plugins[1])


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        (
            reference("a/b/c", plugin="a/b:1.0.0@" + "0f" * 32),
            f"The plugin a/b:1.0.0@{'0f' * 32} is needed: run `headrace plugins add a/b:1.0.0@{'0f' * 32}`.",
        ),
        (reference("a/b/c"), "The plugin a/b is needed: run `headrace plugins add a/b`."),
        (reference("google"), "The plugin langgenius/google is needed: run `headrace plugins add langgenius/google`."),
        (reference("tests/fake/other"), "The plugin tests/fake has no provider of the tools 'tests/fake/other'."),
        (
            reference(tool="dance"),
            f"The plugin tests/fake:0.0.1@{'0123456789abcdef' * 4} has no tool 'dance'; its tools are: act, dynamic.",
        ),
    ],
)
async def test_what_is_missing(plugins: tuple[PluginTools, Plugins], reference: ToolReference, problem: str) -> None:
    assert plugins[0].missing(reference) == problem
    with pytest.raises(NodeError) as raised:
        await plugins[0].find(reference)
    assert (str(raised.value), raised.value.kind) == (problem, "ToolNotFoundError")


async def test_missing_credentials_are_named_before_anything_starts(tmp_path: Path) -> None:
    install(tmp_path)
    async with running(tmp_path, {}) as (tools, plugins):
        assert "FAKE_API_KEY" in (tools.missing(reference()) or "")
        with pytest.raises(NodeError, match="FAKE_API_KEY"):
            await tools.find(reference())
        assert "host" not in vars(plugins)


async def test_parameters_that_only_the_running_plugin_knows(plugins: tuple[PluginTools, Plugins]) -> None:
    tool = await plugins[0].find(reference(tool="dynamic"))
    assert [(parameter.name, parameter.type) for parameter in tool.spec.parameters] == [
        ("do", "string"),
        ("extra", "number"),
    ]


async def test_its_messages_in_order(plugins: tuple[PluginTools, Plugins]) -> None:
    tool = await find(plugins[0])
    sent = [
        ["text", {"text": "a"}, None],
        ["retriever_resources", {"retriever_resources": [], "context": ""}, None],
        ["variable", {"variable_name": "v", "variable_value": "x", "stream": True}, None],
    ]
    assert await messages(tool, "messages", messages=sent) == [
        TextMessage("a"),
        SourcesMessage([]),
        VariableMessage("v", "x", stream=True),
    ]


async def test_a_file_that_another_tool_gave_the_plugin(plugins: tuple[PluginTools, Plugins]) -> None:
    """It is the stored file itself, if that is one of the calling app."""
    tool, files = await find(plugins[0]), plugins[1].stored_files
    stored = [await files.save(b"x", filename="a.txt", mime_type="text/plain", app=app) for app in ("app", "other")]
    sent = [["link", {"text": "https://f"}, {"tool_file_id": file.related_id}] for file in stored]
    (message,) = await messages(tool, "messages", messages=sent[:1])
    assert isinstance(message, FileMessage)
    assert (message.file.related_id, message.mentioned) == (stored[0].related_id, True)
    for unknown in (sent[1], ["image", {"text": "https://f"}, {"tool_file_id": "nothing"}]):
        with pytest.raises(NodeError, match="not found"):
            await messages(tool, "messages", messages=[unknown])


BLOB = bytes(range(256)) * 100


async def test_a_blob_comes_in_chunks(plugins: tuple[PluginTools, Plugins]) -> None:
    meta = {"mime_type": "image/png", "filename": "a.png"}
    content = base64.b64encode(BLOB).decode()
    chunks = await messages(await find(plugins[0]), "blob", content=content, meta=meta)
    assert all(isinstance(chunk, BlobChunkMessage) for chunk in chunks)
    assert b"".join(chunk.data for chunk in chunks if isinstance(chunk, BlobChunkMessage)) == BLOB
    assert chunks[-1] == BlobChunkMessage("b", b"", len(BLOB), True, "image/png", "a.png")


# ---------------------------------------------------------------------------------------------------------------- files


async def test_a_plugin_fetches_its_files(plugins: tuple[PluginTools, Plugins]) -> None:
    stored = [
        await plugins[1].stored_files.save(b"content", filename="a b/ü?.txt", mime_type="text/plain"),
        await plugins[1].stored_files.save(b"", filename="empty.bin", mime_type=""),
    ]
    files = [Variable(file, ("start", "file"), "1") for file in stored]
    tool = await find(plugins[0])
    answers = [
        message.text for message in await messages(tool, "fetch", files=files) if isinstance(message, TextMessage)
    ]
    first, second = map(json.loads, answers)
    assert first["dify_model_identity"] == "__dify__file__"
    assert (first["size"], first["type"], first["filename"]) == (7, "document", stored[0].filename)
    assert second["size"] == 0
    async with httpx.AsyncClient() as client:
        response = await client.get(first["url"])
    assert response.status_code == 404  # its URL has ended with the call


async def test_a_remote_file_keeps_its_url(plugins: tuple[PluginTools, Plugins]) -> None:
    file = File("image", "remote_url", "a.png", ".png", "image/png", 3, "https://x.example/a.png", None, None)
    echo = json.loads(await answer(await find(plugins[0]), "request", files=[file], nested={"file": file}))
    assert echo["tool_parameters"]["files"][0]["url"] == "https://x.example/a.png"
    assert echo["tool_parameters"]["nested"]["file"]["url"] == "https://x.example/a.png"


async def test_a_file_that_is_not_stored_any_more(plugins: tuple[PluginTools, Plugins]) -> None:
    file = await plugins[1].stored_files.save(b"content", filename="a.txt", mime_type="text/plain")
    _, path = await plugins[1].stored_files.open(file.related_id or "")
    await asyncio.to_thread(path.unlink)
    async with plugins[1].files.for_plugin({"file": file}) as plugin_files, httpx.AsyncClient() as client:
        assert (await client.get(plugin_files["file"]["url"])).status_code == 404


@pytest.mark.parametrize("path", ["/", "/files/x/y", "/upload/x", "/files/../x"])
async def test_urls_that_were_not_made_here(plugins: tuple[PluginTools, Plugins], path: str) -> None:
    base = await plugins[1].files._url()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{base}{path}")).status_code in (404, 405)
        assert (await client.post(f"{base}{path}", content=b"x")).status_code in (404, 405)
