"""Calls of models that plugins make back."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.models import ModelCalls, PluginModels, SpeechClient, SpeechWithPlugins
from headrace.adapters.plugins.backwards import Caller
from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.tools.plugins import PluginStrategies
from headrace.errors import HeadraceError, NodeError
from headrace.ports.services import (
    STRATEGY,
    ChatChunk,
    ChatRequest,
    LogMessage,
    TextMessage,
    ToolCall,
    ToolReference,
    Usage,
    UsageMessage,
)
from headrace.values import Value
from tests.plugins.fakes import CONTEXT, SECRET, install, running

PROVIDER = "tests/fake/fake"
MODEL = {"provider": "openai", "model": "m", "model_type": "llm", "mode": "chat", "completion_params": {"top_p": 1}}
USAGE = Usage(prompt_tokens=5, completion_tokens=2)
DONE = ChatChunk(finish_reason="stop", usage=USAGE)


class Models:
    """Answers with `chunks`, and keeps the requests."""

    def __init__(self, *chunks: ChatChunk) -> None:
        self.chunks = chunks
        self.requests: list[ChatRequest] = []

    async def chat(self, request: ChatRequest) -> AsyncIterator[ChatChunk]:
        self.requests.append(request)
        for chunk in self.chunks:
            yield chunk

    def missing(self, provider: str) -> str | None:
        return None


@asynccontextmanager
async def calls_in(data: Path, models: Models) -> AsyncGenerator[tuple[ModelCalls, Plugins]]:
    async with running(data) as (_, plugins):
        of_plugins = PluginModels(plugins)
        speech = SpeechWithPlugins(SpeechClient({}), of_plugins, {}, "")
        yield ModelCalls(models, speech, of_plugins, plugins.stored_files, "openai/small"), plugins  # type: ignore[arg-type]


Answer = Callable[..., Any]


@asynccontextmanager
async def answering(data: Path, *chunks: ChatChunk) -> AsyncGenerator[tuple[Answer, Models, list[Any]]]:
    """(answers a call back of a type, the models, the usages that are counted)."""
    models, usages = Models(*chunks), list[Any]()
    async with calls_in(data, models) as (calls, plugins):
        (plugin, *_) = [*plugins.installed.all(), None]

        async def answer(type_: str, **request: Value) -> list[Mapping[str, Any]]:
            handler: Any = calls.handlers[type_]
            return [data async for data in handler(plugin, request, Caller(CONTEXT, usages.append))]

        yield answer, models, usages


def user(content: Value) -> dict[str, Value]:
    return {"role": "user", "content": content, "name": None}


async def test_llm(tmp_path: Path) -> None:
    tool_call = ToolCall("c1", "add", "{}", {"signed": "x"})
    chunks = (
        ChatChunk("a"),
        ChatChunk("b"),
        ChatChunk(finish_reason="tool_calls", usage=USAGE, tool_calls=[tool_call]),
    )
    tool = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
    async with answering(tmp_path, *chunks) as (answer, models, usages):
        first, second, last = await answer("llm", **MODEL, prompt_messages=[user("hi")], tools=[tool], stop=["x"])
        assert [chunk["delta"]["message"]["content"] for chunk in (first, second, last)] == ["a", "b", ""]
        assert [chunk["delta"]["index"] for chunk in (first, second, last)] == [0, 1, 2]
        assert last["delta"]["message"]["tool_calls"] == [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
        ]
        assert last["delta"]["usage"]["total_tokens"] == 7
        assert usages == [USAGE.wire()]
        (request,) = models.requests
        assert (request.provider, request.model, request.user) == ("openai", "m", "user")
        assert (request.parameters, request.stop, request.tools[0].name) == ({"top_p": 1}, ["x"], "add")

        said = last["delta"]["message"] | {"role": "assistant"}
        result = {"role": "tool", "content": "2", "tool_call_id": "c1"}
        await answer("llm", **MODEL, prompt_messages=[user("hi"), said, result])
        _, message, answered = models.requests[-1].messages
        assert message.tool_calls == [tool_call], "what the provider added to the call is returned with it"
        assert (answered.role, answered.tool_call, answered.text) == ("tool", "c1", "2")


async def test_reasoning_is_between_tags(tmp_path: Path) -> None:
    async with answering(tmp_path, ChatChunk(reasoning="hm"), ChatChunk(reasoning="m"), ChatChunk("yes"), DONE) as (
        answer,
        *_,
    ):
        chunks = await answer("llm", **MODEL, prompt_messages=[user("hi")])
        text = "".join(chunk["delta"]["message"]["content"] for chunk in chunks)
        assert text == "<think>\nhmm\n</think>yes"
    async with answering(tmp_path, ChatChunk(reasoning="hm"), DONE) as (answer, *_):
        chunks = await answer("llm", **MODEL, prompt_messages=[user("hi")])
        assert "".join(chunk["delta"]["message"]["content"] for chunk in chunks) == "<think>\nhm\n</think>"


async def test_files_in_a_prompt(tmp_path: Path) -> None:
    image = {
        "type": "image",
        "format": "png",
        "base64_data": "iVBORw0KGgo=",
        "mime_type": "image/png",
        "detail": "high",
    }
    link = {"type": "document", "format": "pdf", "url": "https://example.com/x.pdf", "mime_type": "application/pdf"}
    async with answering(tmp_path, DONE) as (answer, models, _):
        await answer("llm", **MODEL, prompt_messages=[user([image, link, {"type": "text", "data": "What?"}])])
        (message,) = models.requests[0].messages
        stored, remote = message.files
        assert (message.text, message.detail) == ("What?", "high")
        assert (stored.type, stored.mime_type, stored.size) == ("image", "image/png", 8)
        assert (remote.type, remote.remote_url) == ("document", "https://example.com/x.pdf")


async def test_structured_output(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number"}}}
    request = {**MODEL, "prompt_messages": [user("hi")], "structured_output_schema": schema}
    async with answering(tmp_path, ChatChunk('{"n"'), ChatChunk(": 1}"), DONE) as (answer, models, _):
        *pieces, last = await answer("llm_structured_output", **request)
        assert last["structured_output"] == {"n": 1}
        assert all("structured_output" not in piece for piece in pieces)
        assert models.requests[0].schema == schema
        with pytest.raises(HeadraceError, match="must be a JSON schema"):
            await answer("llm_structured_output", **{**request, "structured_output_schema": None})
    async with answering(tmp_path, ChatChunk("no idea"), DONE) as (answer, *_):
        with pytest.raises(HeadraceError, match="Failed to parse structured output: no idea"):
            await answer("llm_structured_output", **request)


async def test_summary(tmp_path: Path) -> None:
    async with answering(tmp_path, ChatChunk("short"), DONE) as (answer, models, usages):
        assert await answer("system_summary", text="brief", instruction="") == [{"summary": "brief"}]
        assert await answer("system_summary", text="word " * 8000, instruction="In verse.") == [
            {"summary": "\n".join(["short"] * len(models.requests))}
        ]
        assert (models.requests[0].provider, models.requests[0].model) == ("openai", "small")
        assert models.requests[0].messages[0].text.endswith("In verse.")
        assert len(usages) == len(models.requests)


async def test_models_of_other_types(tmp_path: Path) -> None:
    install(tmp_path)
    of = {"provider": PROVIDER, "model": "any"}
    async with answering(tmp_path) as (answer, _, usages):
        (embedded,) = await answer("text_embedding", **of, texts=["a", "bc"])
        assert embedded["embeddings"] == [[1.0], [2.0]]
        assert (usages[0]["total_tokens"], usages[0]["total_price"]) == (4, "0.004")
        (ranked,) = await answer("rerank", **of, query="q", docs=["a", "b"], score_threshold=None, top_n=1)
        assert ranked["docs"] == [{"index": 0, "text": "a", "score": 1.0}]
        assert await answer("moderation", **of, text="bad") == [{"result": True}]
        assert await answer("speech2text", **of, file=b"la".hex()) == [{"result": "any heard la"}]
        assert await answer("tts", **of, content_text="Hi ", voice="bass") == [{"result": b"Hi bass".hex()}]


@pytest.mark.parametrize(
    ("type_", "request_", "problem"),
    [
        ("llm", {"prompt_messages": [user("hi")]}, "provider and model must be texts"),
        ("llm", MODEL, "must be a list of messages"),
        ("llm", {**MODEL, "prompt_messages": [user([{"type": "smell"}])]}, "content of an unknown type: 'smell'"),
        (
            "llm",
            {
                **MODEL,
                "prompt_messages": [user([{"type": "image", "base64_data": "\N{SNOWMAN}", "mime_type": "image/png"}])],
            },
            "not valid base64",
        ),
        ("llm", {**MODEL, "prompt_messages": [user([{"type": "image"}])]}, "neither"),
        ("text_embedding", {"provider": "p", "model": "m", "texts": []}, "texts must be a list of texts"),
        ("text_embedding", {"provider": "p", "model": "m", "texts": ["a"]}, "headrace plugins add langgenius/p"),
        ("rerank", {"provider": "p", "model": "m", "query": "q", "docs": [1]}, "docs must be a list of texts"),
        ("moderation", {"provider": "p", "model": "m"}, "text must be a text"),
        ("speech2text", {"provider": "p", "model": "m", "file": "xyz"}, "file must be in hexadecimal form"),
        ("system_summary", {"text": 1}, "text must be a text"),
    ],
)
async def test_malformed_requests(tmp_path: Path, type_: str, request_: dict[str, Value], problem: str) -> None:
    async with answering(tmp_path, DONE) as (answer, *_):
        with pytest.raises((HeadraceError, NodeError), match=problem):
            await answer(type_, **request_)


# ---------------------------------------------------------------------------------------------------------- a strategy


async def test_a_strategy_runs_and_calls_back(tmp_path: Path) -> None:
    path = install(tmp_path)
    manifest = path / "source" / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("text_embedding: true", "text_embedding: true, llm: true"))
    async with calls_in(tmp_path, Models(ChatChunk("hello"), DONE)) as (calls, plugins):
        plugins.handlers |= calls.handlers
        strategies = PluginStrategies(plugins)
        reference = ToolReference(STRATEGY, PROVIDER, PROVIDER, "acting")
        assert strategies.missing(reference) is None
        strategy = await strategies.find(reference)
        types = {parameter.name: parameter.type for parameter in strategy.spec.parameters}
        assert (types["model"], types["tools"]) == ("model-selector", "array[tools]")
        request = {"do": "call back", "type": "llm", "request": {**MODEL, "prompt_messages": [user("hi")]}}
        text, usage = [message async for message in strategy.call(request, CONTEXT)]
        assert isinstance(text, TextMessage)
        assert [chunk["delta"]["message"]["content"] for chunk in json.loads(text.text)] == ["hello", ""]
        assert usage == UsageMessage(USAGE.wire())
        log = {"id": "1", "label": "ROUND 1", "status": "start", "data": {}}
        logged = [item async for item in strategy.call({"do": "messages", "messages": [["log", log, None]]}, CONTEXT)]
        assert logged == [LogMessage("1", "ROUND 1", "start")]
        sent = [message async for message in strategy.call({"do": "request"}, CONTEXT)]
        assert isinstance(sent[0], TextMessage)
        assert json.loads(sent[0].text) == {
            "type": "agent_strategy",
            "action": "invoke_agent_strategy",
            "user_id": "user",
            "agent_strategy_provider": "fake",
            "agent_strategy": "acting",
            "agent_strategy_params": {"do": "request"},
        }
        with pytest.raises(NodeError, match="error details: no luck") as raised:
            _ = [message async for message in strategy.call({"do": "fail", "message": "no luck"}, CONTEXT)]
        assert SECRET not in str(raised.value)


async def test_a_strategy_that_is_not_installed_or_unknown(tmp_path: Path) -> None:
    install(tmp_path)
    async with running(tmp_path, {}) as (_, plugins):
        strategies = PluginStrategies(plugins)
        unknown = ToolReference(STRATEGY, PROVIDER, PROVIDER, "sulking")
        missing = ToolReference(STRATEGY, "a/b/b", "a/b/b", "x", "a/b:0.1")
        assert "its tools are: acting" in str(strategies.missing(unknown))
        assert strategies.missing(missing) == "The plugin a/b:0.1 is needed: run `headrace plugins add a/b:0.1`."
        with pytest.raises(NodeError, match="headrace plugins add a/b"):
            await strategies.find(missing)
