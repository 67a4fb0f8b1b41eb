"""Models of plugins: which provider is served by what, requests in the SDK's form, answers from it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.models import ModelClient, SpeechClient
from headrace.adapters.models.plugins import PluginModels, SpeechWithPlugins
from headrace.adapters.plugins.credentials import CredentialStore
from headrace.adapters.plugins.identifiers import plugin_of_models
from headrace.adapters.plugins.runtime import Plugins
from headrace.errors import NodeError
from headrace.ports.services import ChatChunk, ChatRequest, FunctionTool, Message, ToolCall, Usage
from headrace.values import File
from tests.plugins.fakes import SECRET, install, running

PROVIDER = "tests/fake/fake"
KEY = {"FAKE_API_KEY": SECRET}
PNG = b"\x89PNG\r\n\x1a\n"


@asynccontextmanager
async def models_in(data: Path, environ: Mapping[str, str] = KEY) -> AsyncGenerator[tuple[ModelClient, Plugins]]:
    async with running(data, environ) as (_, plugins):
        models = ModelClient(environ, plugins=PluginModels(plugins, plugins.stored_files))  # type: ignore[arg-type]
        async with aclosing(models):
            yield models, plugins


@pytest.fixture
async def models(tmp_path: Path) -> AsyncGenerator[ModelClient]:
    install(tmp_path)
    async with models_in(tmp_path) as (models, _):
        yield models


def asking(text: str = "hi", **options: Any) -> ChatRequest:
    return ChatRequest(PROVIDER, options.pop("model", "plain"), [Message("user", text)], **options)


async def chunks_of(models: ModelClient, request: ChatRequest) -> list[ChatChunk]:
    return [chunk async for chunk in models.chat(request)]


async def text_of(models: ModelClient, request: ChatRequest) -> str:
    return "".join(chunk.text for chunk in await chunks_of(models, request))


async def sent_by(models: ModelClient, request: ChatRequest) -> dict[str, Any]:
    """The request that reached the plugin."""
    return json.loads(await text_of(models, request))


async def error_of(models: ModelClient, request: ChatRequest) -> NodeError:
    with pytest.raises(NodeError) as raised:
        await chunks_of(models, request)
    return raised.value


# ------------------------------------------------------------------------------------------------------------ requests


async def test_a_request_is_what_the_sdk_expects(models: ModelClient) -> None:
    tool = FunctionTool("add", "Adds.", {"type": "object", "properties": {}})
    request = replace(
        asking(parameters={"temperature": 0.5, "stop": ["a"], "top_p": None}, stop=["b"], user="ann", tools=[tool]),
        messages=[
            Message("system", "Be kind."),
            Message("user", "1+1?"),
            Message("user", ""),
            Message("assistant", "", tool_calls=[ToolCall("c1", "add", '{"a": 1}', {"opaque_body": {"signed": 1}})]),
            Message("tool", "", tool_call="c1"),
        ],
    )
    assert await sent_by(models, request) == {
        "type": "model",
        "action": "invoke_llm",
        "user_id": "ann",
        "provider": "fake",
        "model_type": "llm",
        "model": "plain",
        "credentials": {"api_key": SECRET},
        "prompt_messages": [
            {"role": "system", "content": "Be kind.", "name": None},
            {"role": "user", "content": "1+1?", "name": None},
            {
                "role": "assistant",
                "content": "",
                "name": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
                "opaque_body": {"signed": 1},
            },
            {"role": "tool", "content": "", "name": "add", "tool_call_id": "c1"},
        ],
        "model_parameters": {"temperature": 0.5},
        "tools": [{"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}],
        "stop": ["b", "a"],
        "stream": True,
    }


async def test_files_are_sent_as_far_as_the_model_takes_them(tmp_path: Path) -> None:
    install(tmp_path)
    async with models_in(tmp_path) as (models, plugins):
        image = await plugins.stored_files.save(PNG, filename="a.png", mime_type="image/png")
        sound = await plugins.stored_files.save(b"la", filename="a.mp3", mime_type="audio/mpeg")
        message = Message("user", "What?", [image, sound], "low")
        for model, types in {"seeing": ["image", "text"], "plain": [], "of-mine": ["image", "audio", "text"]}.items():
            sent = await sent_by(models, ChatRequest(PROVIDER, model, [message]))
            content = sent["prompt_messages"][0]["content"]
            assert [part["type"] for part in content if types] == types
            assert types or content == "What?"
    assert content[0] == {
        "type": "image",
        "format": "png",
        "base64_data": "iVBORw0KGgo=",
        "url": "",
        "mime_type": "image/png",
        "filename": "a.png",
        "detail": "low",
    }


async def test_a_schema_is_bound_as_the_model_can(models: ModelClient) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number"}}}
    native = await sent_by(models, asking(model="seeing", schema=schema))
    assert native["model_parameters"]["response_format"] == "json_schema"
    assert json.loads(native["model_parameters"]["json_schema"]) == {"name": "llm_response", "schema": schema}
    stated = await sent_by(models, asking(schema=schema))
    assert stated["model_parameters"] == {"response_format": "json_object"}
    assert json.dumps(schema) in stated["prompt_messages"][0]["content"]
    unknown = await sent_by(models, asking(model="of-mine", schema=schema))
    assert unknown["model_parameters"] == {}
    assert json.dumps(schema) in unknown["prompt_messages"][0]["content"]


async def test_a_completion_model_gets_one_message(models: ModelClient) -> None:
    sent = await sent_by(
        models, replace(asking(mode="completion"), messages=[Message("system", "a"), Message("user", "b")])
    )
    assert sent["prompt_messages"] == [{"role": "user", "content": "a\n\nb", "name": None}]


async def test_an_empty_prompt_is_not_sent(models: ModelClient) -> None:
    assert (await error_of(models, asking(""))).kind == "InvokeBadRequestError"


# ------------------------------------------------------------------------------------------------------------- answers


async def test_text_comes_in_pieces_and_then_usage_with_the_plugins_prices(models: ModelClient) -> None:
    *pieces, last = await chunks_of(models, asking())
    assert [len(piece.text) > 0 for piece in pieces] == [True, True]
    usage = last.usage
    assert isinstance(usage, Usage)
    assert last.finish_reason == "stop"
    wire = usage.wire()
    assert (wire["prompt_tokens"], wire["completion_tokens"], wire["total_tokens"]) == (7, 3, 10)
    assert (float(wire["total_price"]), wire["currency"]) == (0.026, "RMB")  # type: ignore[arg-type]


async def test_tool_calls_are_put_together(models: ModelClient) -> None:
    def call(id_: str, name: str, arguments: str) -> dict[str, Any]:
        return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}

    chunks = [
        {"content": "", "calls": [call("c1", "add", '{"a"')]},
        {"content": "", "calls": [call("", "", ": 1}")]},
        {"content": "", "calls": [call("c2", "sub", "{}")], "finish_reason": "tool_calls"},
    ]
    *_, last = await chunks_of(models, asking(parameters={"chunks": chunks}))
    assert last.tool_calls == (ToolCall("c1", "add", '{"a": 1}'), ToolCall("c2", "sub", "{}"))
    assert last.usage is not None
    assert last.usage.completion_tokens > 0  # estimated


async def test_content_in_parts(tmp_path: Path) -> None:
    install(tmp_path)
    image = {"type": "image", "format": "png", "base64_data": "iVBORw0KGgo=", "mime_type": "image/png"}
    link = {"type": "image", "format": "png", "url": "https://example.com/x.png", "mime_type": "image/png"}
    parts = [{"type": "text", "data": "See "}, link, image]
    async with models_in(tmp_path) as (models, _):
        text = await text_of(models, asking(parameters={"chunks": [{"content": parts}]}))
    assert text.startswith("See ![](https://example.com/x.png)![")
    assert "http://headrace.example/files/" in text


@pytest.mark.parametrize(
    "results",
    [
        [{"delta": {"message": {"content": [{"type": "image", "base64_data": "!", "mime_type": "image/png"}]}}}],
        [{"delta": {"message": {"content": "", "tool_calls": [{"id": 1, "function": {"name": "x"}}]}}}],
        [{"delta": {"message": {"content": "", "tool_calls": [{"id": "1", "function": {"arguments": 7}}]}}}],
    ],
)
async def test_malformed_chunks_are_a_clear_error(models: ModelClient, results: list[Any]) -> None:
    error = await error_of(models, asking(parameters={"results": results}))
    assert str(error) == "The plugin tests/fake sent a chunk that is not part of an answer."


@pytest.mark.parametrize("results", [[{}], [{"delta": None}], [{"delta": {"message": {"content": None}}}], []])
async def test_chunks_that_say_nothing(models: ModelClient, results: list[Any]) -> None:
    (last,) = await chunks_of(models, asking(parameters={"results": results}))
    assert (last.text, last.tool_calls) == ("", ())


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("InvokeRateLimitError", "InvokeRateLimitError"),
        ("InvokeAuthorizationError", "InvokeAuthorizationError"),
        ("KeyError", "PluginInvokeError"),
    ],
)
async def test_errors_have_difys_names_and_no_secrets(models: ModelClient, type_: str, kind: str) -> None:
    error = {"error_type": type_, "message": f"too much for {SECRET}", "args": {}}
    raised = await error_of(models, asking(parameters={"error": error}))
    assert raised.kind == kind
    assert "too much for" in str(raised)
    assert SECRET not in str(raised)


# ----------------------------------------------------------------------------------------------------- who serves what


async def test_a_key_for_our_own_driver_goes_first(tmp_path: Path) -> None:
    install(tmp_path)
    async with models_in(tmp_path, {**KEY, "FAKE_BASE_URL": "http://127.0.0.1:9/v1"}) as (models, plugins):
        assert models.missing(PROVIDER) is None
        assert (await error_of(models, asking())).kind == "InvokeConnectionError"
        assert "host" not in vars(plugins)


async def test_a_missing_credential_is_named_before_anything_starts(tmp_path: Path) -> None:
    install(tmp_path)
    async with models_in(tmp_path, {}) as (models, plugins):
        missing = models.missing(PROVIDER)
        assert missing is not None
        assert "FAKE_API_KEY" in missing
        error = await error_of(models, asking())
        assert (error.kind, str(error)) == ("ProviderTokenNotInitError", f"provider_not_initialize: {missing}")
        assert "host" not in vars(plugins)


async def test_a_model_may_have_credentials_of_its_own(tmp_path: Path) -> None:
    install(tmp_path)
    file = tmp_path / "credentials.yaml"
    file.write_text("fake:\n  default: {api_key: k}\n  of-mine: {endpoint: http://x}\n")
    async with models_in(tmp_path, {}) as (models, plugins):
        plugins.credentials = CredentialStore(file, {})
        assert (await sent_by(models, asking()))["credentials"] == {"api_key": "k"}
        sent = await sent_by(models, asking(model="of-mine"))
        assert sent["credentials"] == {"endpoint": "http://x", "mode": "chat"}


async def test_a_plugin_that_is_not_installed_is_named(tmp_path: Path) -> None:
    async with models_in(tmp_path, {}) as (models, _):
        missing = models.missing("someone/new_ai/new_ai")
        assert missing is not None
        assert "headrace plugins add someone/new_ai" in missing
        assert "plugins" not in str(models.missing("openai"))  # our own driver reaches it
        assert models.missing("") == ModelClient({}).missing("")


@pytest.mark.parametrize(
    ("provider", "plugin"),
    [
        ("langgenius/openai/openai", "langgenius/openai"),
        ("Someone/New_AI/x", "someone/new_ai"),
        ("bedrock", "langgenius/bedrock"),
        ("google", "langgenius/gemini"),
    ],
)
def test_the_plugin_of_a_provider(provider: str, plugin: str) -> None:
    assert plugin_of_models(provider).plugin == plugin


# -------------------------------------------------------------------------------------------------------------- speech


async def test_speech(tmp_path: Path) -> None:
    install(tmp_path)
    async with running(tmp_path, KEY) as (_, plugins):
        speech = SpeechWithPlugins(SpeechClient(KEY), PluginModels(plugins), KEY, PROVIDER)
        assert speech.missing() is None
        assert "headrace plugins add" not in str(speech.missing("openai"))
        assert await speech.transcribe(b"hello", filename="a.wav", mime_type="audio/wav") == "hearing heard hello"
        transcript = await speech.transcribe(b"x", filename="", mime_type="", provider=PROVIDER, model="whisper")
        assert transcript == "whisper heard x"
        assert await speech.speak("Hi ") == (b"Hi alto", "audio/x-test")
        assert await speech.speak("Hi ", voice="bass", model="of-mine") == (b"Hi bass", "audio/x-test")
        with pytest.raises(NodeError, match="speech has no provider"):
            await SpeechWithPlugins(SpeechClient({}), PluginModels(plugins), {}, "").speak("Hi")


async def test_a_file_that_is_gone(models: ModelClient) -> None:
    gone = File("image", "local_file", related_id="no-such-file", mime_type="image/png")
    error = await error_of(models, ChatRequest(PROVIDER, "seeing", [Message("user", "What?", [gone])]))
    assert error.kind != "InvokeConnectionError"


def test_what_plugins_declare_is_not_read_before_there_is_a_plugin() -> None:
    program = "import sys, headrace.main; sys.exit('headrace.adapters.plugins.declarations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
