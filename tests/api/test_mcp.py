"""Apps as tools, called by the official client of the Model Context Protocol in both generations of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
import yaml
from jsonschema import Draft202012Validator
from mcp.client import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.types import AudioContent, CallToolResult, ImageContent, ResourceLink, TextContent

from headrace.access.keys import Rights
from headrace.kernel.events import StopRequested
from headrace.node import Context, Result
from headrace.ports import RunFilter
from headrace.values import Value
from tests.api.chats import chatflow
from tests.api.serving import Client, Gate, Scripted, Serving, workflow

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
STATELESS, SESSIONS = "2026-07-28", "legacy"
both = pytest.mark.parametrize("mode", [STATELESS, SESSIONS])


@asynccontextmanager
async def connected(
    app: Client, mode: str = "auto", key: str | None = None, headers: dict[str, str] | None = None
) -> AsyncGenerator[McpClient]:
    all_headers = {"Authorization": f"Bearer {key or app.key}", **(headers or {})}
    async with (
        httpx2.AsyncClient(headers=all_headers, timeout=30) as http,
        McpClient(streamable_http_client(f"{app.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def field(name: str, kind: str = "text-input", **more: Any) -> dict[str, Any]:
    return {"variable": name, "label": name.title(), "type": kind, **more}


def named(content: str, name: str, description: str = "") -> str:
    """A workflow file with another name."""
    file = yaml.safe_load(content)
    file["app"] |= {"name": name, "description": description}
    return yaml.safe_dump(file, allow_unicode=True)


def texts(result: CallToolResult) -> list[str]:
    return [content.text for content in result.content if isinstance(content, TextContent)]


async def workspace_key(server: Serving, *permissions: str, apps: frozenset[str] | None = None) -> str:
    rights = Rights("default", frozenset(permissions or ("run",)), apps=apps)
    _, key = await server.apps.access.create(rights, "test")
    return key


async def test_a_client_finds_out_what_is_spoken(server: Serving) -> None:
    app = await server.add("flow.yml", workflow(outputs={}))
    async with connected(app) as client:
        assert client.protocol_version == STATELESS
        assert client.server_info is not None
        assert client.server_info.name == "headrace"
        assert client.server_capabilities.tools is not None
    async with connected(app, SESSIONS) as client:
        assert client.protocol_version == "2025-11-25"
        with pytest.warns(MCPDeprecationWarning):
            await client.send_ping()


@both
async def test_a_workflow_is_a_tool(server: Serving, mode: str) -> None:
    variables = [field("text", required=True, max_length=20), field("count", "number", default=3)]
    content = workflow(variables=variables, outputs={"said": ["start", "text"], "count": ["start", "count"]})
    app = await server.add("flow.yml", named(content, "Say it", "Repeats a text."))
    async with connected(app, mode) as client:
        (tool,) = (await client.list_tools()).tools
        assert (tool.name, tool.title, tool.description) == ("Say_it", "Say it", "Repeats a text.")
        assert tool.input_schema == {
            "type": "object",
            "properties": {
                "text": {"type": "string", "maxLength": 20, "description": "Text"},
                "count": {"type": "number", "description": "Count", "default": 3},
            },
            "required": ["text"],
        }
        assert tool.output_schema is None
        result = await client.call_tool("Say_it", {"text": "hello", "unknown": 1})
    assert not result.is_error
    assert result.structured_content == {"said": "hello", "count": 3}
    assert texts(result) == ['{"said":"hello","count":3}']
    assert result.meta is not None
    assert await server.run_service.runs.find_run(result.meta["headrace/workflow_run_id"]) is not None


@both
async def test_a_chat_continues_a_conversation(server: Serving, mode: str) -> None:
    app = await server.add("chat.yml", chatflow("{{#sys.dialogue_count#}} {{#sys.query#}}"))
    async with connected(app, mode) as client:
        (tool,) = (await client.list_tools()).tools
        assert tool.input_schema["required"] == ["query"]
        assert tool.output_schema is not None
        assert tool.output_schema["required"] == ["answer", "message_id", "conversation_id"]
        first = await client.call_tool("chat", {"query": "one"})
        assert first.structured_content is not None
        conversation = first.structured_content["conversation_id"]
        assert texts(first) == ["1 one", f"conversation_id: {conversation}"]
        second = await client.call_tool("chat", {"query": "two", "conversation_id": conversation})
    assert second.structured_content is not None
    assert second.structured_content["answer"] == "2 two"


async def test_a_conversation_belongs_to_the_user_of_the_header(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#sys.user_id#}}"))
    async with connected(app, headers={"Headrace-User": "ada"}) as client:
        said = await client.call_tool("chat", {"query": "one"})
    assert said.structured_content is not None
    assert said.structured_content["answer"] == "ada"
    async with connected(app) as client:
        conversation = said.structured_content["conversation_id"]
        refused = await client.call_tool("chat", {"query": "two", "conversation_id": conversation})
    assert refused.is_error
    assert texts(refused) == ["Conversation Not Exists."]


@both
async def test_progress_is_reported_node_by_node(server: Serving, mode: str) -> None:
    gate = Scripted.scripts["wait"] = Gate([])
    app = await server.add("flow.yml", workflow(["wait"], outputs={"text": ["wait", "text"]}))
    reports: list[tuple[float, float | None, str | None]] = []
    begun = asyncio.Event()

    async def report(progress: float, total: float | None, message: str | None) -> None:
        reports.append((progress, total, message))
        if message == "Wait":
            begun.set()

    async with connected(app, mode) as client:
        calling = asyncio.create_task(client.call_tool("tiny", progress_callback=report))
        await begun.wait()  # while the node is running
        gate.let()
        result = await calling
    assert result.structured_content == {"text": ""}
    assert reports == [(1, None, "Start"), (2, None, "Wait"), (3, None, "End")]


@both
async def test_cancelling_a_call_stops_its_run(server: Serving, mode: str) -> None:
    gate = Scripted.scripts["wait"] = Gate([])
    app = await server.add("flow.yml", workflow(["wait"]))
    async with connected(app, mode) as client:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "tiny")
                await gate.reached.wait()
                scope.cancel()
        await gate.cancelled.wait()
    (run,) = (await server.store.runs.list_runs(RunFilter(app=app.release.app.id)))[1]
    events = [record.event async for record in server.run_service.follow(run.run)]
    by = "client disconnected" if mode == STATELESS else "client cancelled"
    assert StopRequested(by) in events


async def test_a_run_that_fails_or_is_stopped_is_an_error_for_the_model(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate([])
    failing = await server.add("boom.yml", workflow(["boom"]))
    chat = await server.add("chat.yml", chatflow("{{#boom.text#}}", ["boom"]))
    waiting = await server.add("wait.yml", workflow(["wait"]))
    asking = await server.add("ask.yml", workflow(["ask"]))
    async with connected(failing) as client:
        result = await client.call_tool("tiny")
        assert (result.is_error, texts(result), result.structured_content) == (True, ["it went boom"], None)
    async with connected(chat) as client:
        result = await client.call_tool("chat", {"query": "hi"})
        assert (result.is_error, texts(result)) == (True, ["Run failed: it went boom"])
    async with connected(waiting) as client:
        calling = asyncio.create_task(client.call_tool("tiny"))
        await gate.reached.wait()
        (run,) = (await server.store.runs.list_runs(RunFilter(app=waiting.release.app.id)))[1]
        await server.run_service.stop(run.run, "somebody")
        assert texts(await calling) == ["The run was stopped."]
    async with connected(asking) as client:
        result = await client.call_tool("tiny")
        assert (result.is_error, texts(result)) == (
            True,
            ["The run waits for a person, so this call has no result."],
        )


@both
async def test_wrong_arguments_are_for_the_model_and_unknown_tools_are_not(server: Serving, mode: str) -> None:
    app = await server.add("flow.yml", workflow(variables=[field("text", required=True)]))
    async with connected(app, mode) as client:
        missing = await client.call_tool("tiny", {})
        assert (missing.is_error, texts(missing)) == (True, ["text is required in input form"])
        wrong = await client.call_tool("tiny", {"text": 5})
        assert wrong.is_error
        with pytest.raises(MCPError, match="Unknown tool: nothing"):
            await client.call_tool("nothing", {})
        with pytest.raises(MCPError, match="Invalid cursor"):
            await client.list_tools(cursor="2")
    assert (await server.store.runs.list_runs(RunFilter(app=app.release.app.id)))[0] == 0


async def test_the_schema_of_every_type_of_input(server: Serving) -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["a"]}
    variables = [
        field("line", max_length=48, default="x"),
        field("text", "paragraph"),
        field("choice", "select", options=["a", "b"], required=True),
        field("yes", "checkbox"),
        field("object", "json_object", json_schema=schema),
        field("circular", "json_object", json_schema={"properties": {"a": {"$ref": "#"}}}),
        field("file", "file", required=True),
        field("files", "file-list", max_length=2),
    ]
    app = await server.add("flow.yml", workflow(variables=variables))
    async with connected(app) as client:
        (tool,) = (await client.list_tools()).tools
    Draft202012Validator.check_schema(tool.input_schema)
    properties = tool.input_schema["properties"]
    assert tool.input_schema["required"] == ["choice", "file"]
    assert properties["line"] == {"type": "string", "maxLength": 48, "description": "Line", "default": "x"}
    assert properties["choice"]["enum"] == ["a", "b"]
    assert properties["yes"]["type"] == "boolean"
    assert properties["object"] == {"type": "object", "required": ["a"], "description": "Object"}
    assert properties["circular"] == {"type": "object", "description": "Circular"}
    assert properties["file"]["description"].startswith("File. A file: its http(s) URL")
    assert (properties["files"]["type"], properties["files"]["maxItems"]) == ("array", 2)


async def test_names_are_valid_and_stable(server: Serving) -> None:
    apps: dict[str, Client] = {}
    for source, name in [("a", "Support"), ("b", "Support"), ("c", "翻译"), ("d", "翻译 v2"), ("e", "x" * 70)]:
        apps[source] = await server.add(f"{source}.yml", named(workflow(), name))
    ids = {source: app.release.app.id[:8] for source, app in apps.items()}
    expected = ["Support", f"Support_{ids['b']}", f"app_{ids['c']}", f"v2_{ids['d']}", f"{'x' * 55}_{ids['e']}"]
    key = await workspace_key(server)
    async with connected(apps["a"], key=key) as client:
        listed = (await client.list_tools()).tools
        assert [tool.name for tool in listed] == expected
        assert [tool.title for tool in listed] == [app.release.app.name for app in apps.values()]
        assert all(len(tool.name) <= 64 for tool in listed)
        for name in expected:
            assert not (await client.call_tool(name)).is_error


async def test_keys_open_their_apps_alone(server: Serving) -> None:
    first = await server.add("a.yml", named(workflow(), "first"))
    second = await server.add("b.yml", named(workflow(), "second"))
    async with connected(first) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["first"]
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("second")
    some = await workspace_key(server, apps=frozenset({second.release.app.id}))
    async with connected(first, key=some) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["second"]
    reading = await workspace_key(server, "read")
    for key, problem in [(reading, "lacks the permission 'run'"), ("app-wrong", "Access token is invalid")]:
        async with connected(first, STATELESS, key=key) as client:
            with pytest.raises(MCPError, match=problem):
                await client.list_tools()


@both
async def test_files_are_embedded_where_small_and_linked_otherwise(server: Serving, mode: str) -> None:
    async def make(ctx: Context) -> Result:
        image = await ctx.resources.files.save(PNG, filename="dot.png", mime_type="image/png")
        sound = await ctx.resources.files.save(b"RIFF", filename="beep.wav", mime_type="audio/wav")
        report = await ctx.resources.files.save(b"%PDF", filename="report.pdf", mime_type="application/pdf")
        large = await ctx.resources.files.save(bytes(300_000), filename="large.png", mime_type="image/png")
        return Result({"files": [image, sound, report, large]})

    Scripted.scripts["make"] = make
    app = await server.add("flow.yml", workflow(["make"], outputs={"files": ["make", "files"]}))
    async with connected(app, mode) as client:
        result = await client.call_tool("tiny")
    _, image, sound, report, large = result.content
    assert isinstance(image, ImageContent)
    assert (image.mime_type, base64.b64decode(image.data)) == ("image/png", PNG)
    assert isinstance(sound, AudioContent)
    assert base64.b64decode(sound.data) == b"RIFF"
    assert isinstance(report, ResourceLink)
    assert isinstance(large, ResourceLink)
    assert (report.name, report.mime_type, report.size) == ("report.pdf", "application/pdf", 4)
    async with server.session.get(str(report.uri)) as answer:
        assert await answer.read() == b"%PDF"
    assert result.structured_content is not None
    assert result.structured_content["files"][2]["filename"] == "report.pdf"


async def test_a_file_is_given_by_url_by_id_or_within_the_call(server: Serving) -> None:
    variables = [field("one", "file", required=True), field("more", "file-list")]
    app = await server.add("flow.yml", workflow(variables=variables, outputs={"one": ["start", "one"]}))
    stored = await server.files.save(
        PNG, filename="dot.png", mime_type="image/png", transfer_method="local_file", app=app.release.app.id
    )
    data_url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    async with connected(app) as client:

        async def one(file: Value) -> Any:
            result = await client.call_tool("tiny", {"one": file, "more": [data_url]})
            assert not result.is_error, texts(result)
            assert result.structured_content is not None
            return result.structured_content["one"]

        assert (await one("https://example.com/a.png"))["remote_url"] == "https://example.com/a.png"
        assert (await one(stored.related_id))["related_id"] == stored.related_id
        assert (await one(data_url))["size"] == len(PNG)
        for broken in ("data:image/png;base64,%%%", "data:image/png,x", "nothing"):
            result = await client.call_tool("tiny", {"one": broken})
            assert result.is_error
