"""What plugins call back for: permissions, nesting, storage, files, tools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from headrace.adapters.plugins import backwards, host
from headrace.adapters.plugins.backwards import Caller, missing_permission
from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.adapters.plugins.manifest import Permissions
from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.tools import ToolRegistry
from headrace.adapters.tools.plugins import PluginTools, ToolCalls
from headrace.errors import HeadraceError, NodeError, NotFound
from headrace.ports.services import Tool, UsageMessage
from headrace.values import Value
from tests.plugins.fakes import CONTEXT, answer, find, install, messages, running

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plugins(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[PluginTools, Plugins]]:
    folder = tmp_path_factory.mktemp("plugins")
    install(folder)
    async with running(folder) as (tools, plugins):
        plugins.handlers["tool"] = ToolCalls(ToolRegistry({"plugin": tools}))
        yield tools, plugins


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tool(plugins: tuple[PluginTools, Plugins]) -> Tool:
    return await find(plugins[0])


async def call_back(tool: Tool, type_: str, /, **request: Value) -> Any:
    return json.loads(await answer(tool, "call back", type=type_, request=request))


async def error_of(tool: Tool, type_: str, /, **request: Value) -> str:
    answers = await call_back(tool, type_, **request)
    assert list(answers[-1]) == ["error"]
    return answers[-1]["error"]


# --------------------------------------------------------------------------------------------------------- permissions


@pytest.mark.parametrize(
    ("type_", "missing"),
    [
        ("tool", "tool"),
        ("llm", "llm"),
        ("llm_structured_output", "llm"),
        ("system_summary", "llm"),
        ("text_embedding", "text-embedding"),
        ("multimodal_embedding", "text-embedding"),
        ("rerank", "rerank"),
        ("multimodal_rerank", "rerank"),
        ("tts", "tts"),
        ("speech2text", "speech2text"),
        ("moderation", "moderation"),
        ("app", "app"),
        ("fetch_app", "app"),
        ("node_parameter_extractor", "node"),
        ("node_question_classifier", "node"),
        ("storage", "storage"),
        ("upload_file", ""),
    ],
)
async def test_permissions(type_: str, missing: str) -> None:
    models = frozenset({"llm", "text_embedding", "rerank", "tts", "speech2text", "moderation"})
    everything = Permissions(tool=True, models=models, node=True, endpoint=True, app=True, storage=1)
    assert missing_permission(Permissions(), type_) == missing
    assert missing_permission(everything, type_) == ""


async def test_what_a_plugin_may_not_do_and_what_is_not_offered(tool: Tool) -> None:
    assert await error_of(tool, "llm") == "permission denied, you need to enable llm access in plugin manifest"
    assert "does not offer 'text_embedding'" in await error_of(tool, "text_embedding")
    assert "does not offer 'sing'" in await error_of(tool, "sing")
    assert json.loads(await answer(tool, "call back", type="storage", request=[])) == [
        {"error": "the request is not an object"}
    ]


async def test_a_plugin_that_serves_as_a_model_may_not_call_back(plugins: tuple[PluginTools, Plugins]) -> None:
    (plugin,) = plugins[1].installed.all()
    request = {"type": "model", "action": "invoke_tool", "credentials": {}, "provider": "fake", "tool": "act"}
    parameters = {"do": "call back", "type": "storage", "request": {"opt": "exist", "key": "k"}}
    results = [
        result async for result in plugins[1].host.call(plugin, {**request, "tool_parameters": parameters}, CALLER)
    ]
    assert "you can not invoke dify from model" in results[0]["message"]["text"]


CALLER = Caller(CONTEXT)


# ------------------------------------------------------------------------------------------------------- other handlers


class Scripted:
    """A handler that answers a request as it says."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.is_closed = asyncio.Event()
        self.is_called = asyncio.Event()

    async def __call__(
        self, plugin: InstalledPlugin, request: Mapping[str, Value], caller: Caller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        self.callers.append(caller)
        self.is_called.set()
        try:
            for number in range(request.get("parts", 0)):
                yield {"part": number}
            match request.get("then"):
                case "wait":
                    await asyncio.Event().wait()
                case "not found":
                    raise NotFound("There is no such thing.")
                case "error":
                    raise HeadraceError("that is not possible")
                case "bug":
                    raise ZeroDivisionError
                case "usage":
                    caller.on_usage({"total_tokens": 7})
        finally:
            self.is_closed.set()


@pytest.fixture
def scripted(plugins: tuple[PluginTools, Plugins]) -> Scripted:
    handler = plugins[1].handlers["text_embedding"] = Scripted()
    return handler


async def test_any_number_of_answers(tool: Tool, scripted: Scripted) -> None:
    assert await call_back(tool, "text_embedding", parts=3) == [{"part": 0}, {"part": 1}, {"part": 2}]
    assert await call_back(tool, "text_embedding", parts=0) == []
    first, second = (caller.context for caller in scripted.callers)
    assert (first.run, first.app, first.user) == ("run", "app", "user")
    assert first.key.startswith("run/n/0/.back[text_embedding-")
    assert second.key != first.key


async def test_errors_of_handlers(tool: Tool, scripted: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    assert await call_back(tool, "text_embedding", parts=1, then="error") == [
        {"part": 0},
        {"error": "that is not possible"},
    ]
    assert await error_of(tool, "text_embedding", then="not found") == "There is no such thing."
    assert await error_of(tool, "text_embedding", then="bug") == "text_embedding failed because of an error in Headrace"
    assert "ZeroDivisionError" in caplog.text


async def test_a_handler_that_takes_too_long(tool: Tool, scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backwards, "SECONDS", 0.1)
    assert await error_of(tool, "text_embedding", then="wait") == "text_embedding did not finish within 0.1 s"
    assert scripted.is_closed.is_set()


async def test_a_stopped_call_stops_what_it_called_back_for(tool: Tool, scripted: Scripted) -> None:
    task = asyncio.create_task(messages(tool, "call back", type="text_embedding", request={"then": "wait"}))
    await scripted.is_called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(scripted.is_closed.wait(), 60)


async def test_calls_back_are_bounded(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_MOST_CALLS_BACK", 10)
    with pytest.raises(NodeError, match="calls back more than 10 times at once"):
        await messages(tool, "call back without end", count=50)


async def test_usage_counts_as_the_callers(tool: Tool, scripted: Scripted) -> None:
    *_, last = await messages(tool, "call back", type="text_embedding", request={"then": "usage"})
    assert last == UsageMessage({"total_tokens": 7})


# -------------------------------------------------------------------------------------------------------------- storage


async def test_storage(tool: Tool) -> None:
    assert await call_back(tool, "storage", opt="exist", key="k") == [{"data": False, "exist_num": 0}]
    assert "load data failed" in await error_of(tool, "storage", opt="get", key="k")
    assert await call_back(tool, "storage", opt="set", key="k", value=b"\x00v".hex()) == [{"data": "ok"}]
    assert await call_back(tool, "storage", opt="set", key="../k 漢", value="") == [{"data": "ok"}]
    assert await call_back(tool, "storage", opt="get", key="k") == [{"data": b"\x00v".hex()}]
    assert await call_back(tool, "storage", opt="exist", key="k") == [{"data": True, "exist_num": 1}]
    assert await call_back(tool, "storage", opt="del", key="k") == [{"data": "ok", "deleted_num": 1}]
    assert await call_back(tool, "storage", opt="del", key="k") == [{"data": "ok", "deleted_num": 0}]
    assert "load data failed" in await error_of(tool, "storage", opt="get", key="k")
    assert await call_back(tool, "storage", opt="get", key="../k 漢") == [{"data": ""}]


async def test_storage_outlives_the_process(tmp_path: Path) -> None:
    install(tmp_path)
    for expected in (False, True):
        async with running(tmp_path) as (tools, _):
            tool = await find(tools)
            (exists,) = await call_back(tool, "storage", opt="exist", key="k")
            assert exists["data"] is expected
            await call_back(tool, "storage", opt="set", key="k", value="00")


async def test_storage_is_bounded(tool: Tool) -> None:
    for key in ("a", "b", "../k 漢"):
        await call_back(tool, "storage", opt="del", key=key)
    assert await call_back(tool, "storage", opt="set", key="a", value="00" * 4000) == [{"data": "ok"}]
    message = "save data failed: allocated size is greater than max storage size"
    assert await error_of(tool, "storage", opt="set", key="b", value="00" * 97) == message
    assert await call_back(tool, "storage", opt="set", key="b", value="00" * 96) == [{"data": "ok"}]
    assert await call_back(tool, "storage", opt="set", key="a", value="11" * 4000) == [{"data": "ok"}]  # in its place


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"opt": "get"}, "the key must be a text"),
        ({"opt": "get", "key": ""}, "the key must be a text"),
        ({"opt": "get", "key": "k" * 257}, "the key must be a text of 1 to 256 characters"),
        ({"opt": "set", "key": "k"}, "decode data failed"),
        ({"opt": "set", "key": "k", "value": "no hex"}, "decode data failed"),
        ({"opt": "swap", "key": "k"}, "unknown operation of the storage: 'swap'"),
    ],
)
async def test_malformed_requests_of_storage(tool: Tool, request_: dict[str, Value], problem: str) -> None:
    assert problem in await error_of(tool, "storage", **request_)


async def test_hundreds_of_calls_back_in_one_call(tool: Tool) -> None:
    request = {"opt": "exist", "key": "k"}
    assert await answer(tool, "call back", type="storage", request=request, times=300) == "300"


# ---------------------------------------------------------------------------------------------------------------- files


async def test_an_upload(tool: Tool, plugins: tuple[PluginTools, Plugins]) -> None:
    content = "the content\r\nof a file"
    stored = json.loads(await answer(tool, "upload", filename="notes.md", mimetype="text/markdown", content=content))
    assert stored["status"] == 201
    assert (stored["name"], stored["size"], stored["mime_type"]) == ("notes.md", len(content), "text/markdown")
    assert stored["extension"] == ".md"
    assert "http://headrace.example/files/tools/" in stored["preview_url"]
    file, path = await plugins[1].stored_files.open(stored["id"])
    assert path.read_bytes() == content.encode()
    assert (file.app, file.owner) == ("app", "user")


async def test_a_malformed_request_for_an_upload(tool: Tool) -> None:
    assert "must be texts" in await error_of(tool, "upload_file", filename=1)


# ---------------------------------------------------------------------------------------------------------------- tools


def tool_request(do: str, **parameters: Value) -> dict[str, Value]:
    parameters["do"] = do
    return {"tool_type": "builtin", "provider": "tests/fake/fake", "tool": "act", "tool_parameters": parameters}


async def test_a_plugin_calls_a_tool(tool: Tool) -> None:
    sent = [
        ["text", {"text": "a"}, None],
        ["json", {"json_object": {"b": 1}}, None],
        ["link", {"text": "https://c.example"}, None],
        ["blob", {"blob": "AA=="}, {"mime_type": "image/png", "filename": "d.png"}],
        ["variable", {"variable_name": "e", "variable_value": [1], "stream": False}, None],
    ]
    answers = await call_back(tool, "tool", **tool_request("messages", messages=sent))
    assert [[answer["type"], answer["message"], answer["meta"]] for answer in answers] == sent


async def test_a_tool_that_fails_or_does_not_exist(tool: Tool) -> None:
    assert "error details: no luck" in await error_of(tool, "tool", **tool_request("fail", message="no luck"))
    assert "has no tool 'x'" in await error_of(tool, "tool", **{**tool_request(""), "tool": "x"})
    assert "The plugin a/b is needed" in await error_of(tool, "tool", **{**tool_request(""), "provider": "a/b/c"})
    assert "must be texts" in await error_of(tool, "tool", **{**tool_request(""), "provider": 1})
    assert "must be an object" in await error_of(tool, "tool", **{**tool_request(""), "tool_parameters": [1]})


async def test_plugins_that_call_each_other_without_end(tool: Tool) -> None:
    request = tool_request("many", count=1)
    for _ in range(backwards.DEEPEST - 1):
        request = tool_request("call back", type="tool", request=request)
    assert await call_back(tool, "tool", **request)
    request = tool_request("call back", type="tool", request=request)
    assert "more than 5 plugins call each other" in json.dumps(await call_back(tool, "tool", **request))
