"""What providers are sent, and where."""

import base64
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from headrace.adapters.models import ModelClient
from headrace.adapters.models.providers import PROVIDERS, provider_of, resolve
from headrace.adapters.models.request import build
from headrace.errors import NodeError
from headrace.ports.services import Files, Message
from headrace.values import File, Value
from tests.models.server import ask


class Stored(Files):
    """A store with one content for every file."""

    async def save(self, data: bytes, **_: Any) -> File:
        raise NotImplementedError

    async def resolve(self, mapping: Mapping[str, Value], app: str | None = None, owners: Collection[str] = ()) -> File:
        raise NotImplementedError

    async def read(self, file: File, max_size: int = 0) -> bytes:
        if file.filename == "gone":
            raise NodeError("the file is gone", "FileNotFound")
        return b"\x89PNG data"


async def body_of(provider: str = "openai", **more: Any) -> dict[str, Any]:
    return await build(ask(provider=provider, **more), provider_of(provider), Stored())


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({"temperature": 0.7, "top_p": None, "seed": 0}, {"temperature": 0.7, "seed": 0}),
        ({"presence_penalty": 1, "frequency_penalty": -1}, {"presence_penalty": 1, "frequency_penalty": -1}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"num_predict": 5}, {"max_tokens": 5}),
        ({"stop": ["a", "", "b", "a"]}, {"stop": ["a", "b"]}),
        ({"stop": "a"}, {"stop": ["a"]}),
        ({"stop": []}, {}),
        ({"response_format": "json_object"}, {"response_format": {"type": "json_object"}}),
        ({"response_format": "JSON"}, {"response_format": {"type": "json_object"}}),
        ({"response_format": "text"}, {"response_format": {"type": "text"}}),
        ({"response_format": "XML"}, {}),
        ({"response_format": ""}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        ({"json_schema": '{"type": "object"}'}, {}),
        (
            {"response_format": "json_schema", "json_schema": '{"type": "object"}'},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "llm_response", "schema": {"type": "object"}},
                }
            },
        ),
        (
            {"response_format": "json_schema", "json_schema": '{"name": "x", "schema": {"type": "object"}}'},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "object"}},
                }
            },
        ),
        ({"reasoning_effort": "low", "anything": [1]}, {"reasoning_effort": "low", "anything": [1]}),
        ({"enable_thinking": False}, {"enable_thinking": False}),
    ],
)
async def test_completion_parameters(parameters: dict[str, Any], sent: dict[str, Any]):
    body = await body_of(parameters=parameters)
    assert {name: body[name] for name in body if name not in {"model", "stream", "stream_options", "messages"}} == sent


@pytest.mark.parametrize("schema", ["{oops", "", "[]", "{}", "1"])
async def test_a_schema_that_is_none(schema: str):
    with pytest.raises(NodeError, match="json_schema") as raised:
        await body_of(parameters={"response_format": "json_schema", "json_schema": schema})
    assert raised.value.kind == "InvokeBadRequestError"


async def test_stop_words_of_both_kinds_and_the_user():
    body = await body_of(stop=["x"], parameters={"stop": ["y", "x"]}, user="me")
    assert (body["stop"], body["user"]) == (["x", "y"], "me")


async def test_reasoning_models_have_another_name_for_max_tokens():
    for model, name in {
        "o3-mini": "max_completion_tokens",
        "gpt-5": "max_completion_tokens",
        "gpt-4o": "max_tokens",
    }.items():
        assert (await body_of(model=model, parameters={"max_tokens": 5}))[name] == 5
    assert (await body_of("groq", model="o3-mini", parameters={"max_tokens": 5}))["max_tokens"] == 5


async def test_how_thinking_is_switched():
    off = {"enable_thinking": False}
    assert (await body_of("zhipuai", parameters=off))["thinking"] == {"type": "disabled"}
    assert (await body_of("deepseek", parameters={"thinking": True}))["thinking"] == {"type": "enabled"}
    assert (await body_of("tongyi", parameters=off))["enable_thinking"] is False
    assert (await body_of("vllm", parameters=off))["chat_template_kwargs"] == off


async def test_providers_that_know_less_are_sent_less():
    body = await body_of("mistralai", user="me")
    assert "user" not in body
    assert "stream_options" not in body


async def test_a_schema_binds_the_answer():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    native = {"type": "json_schema", "json_schema": {"name": "llm_response", "schema": schema}}
    assert (await body_of("openai", schema=schema))["response_format"] == native
    for provider, sent in {"deepseek": {"type": "json_object"}, "openai_api_compatible": native}.items():
        body = await body_of(provider, schema=schema, messages=[Message("system", "Be kind."), Message("user", "Hi")])
        assert body["response_format"] == sent
        assert len(body["messages"]) == 2
        assert '"properties"' in body["messages"][0]["content"]
        assert body["messages"][0]["content"].endswith("Be kind.")


PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG data").decode()


@pytest.mark.parametrize(
    ("provider", "file", "part"),
    [
        ("openai", File("image", "local_file"), {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}),
        ("openai", File("video", "local_file"), None),
        ("tongyi", File("video", "tool_file", mime_type="image/png"), {"type": "video_url", "video_url": {"url": PNG}}),
        (
            "openai",
            File("document", "local_file", filename="a.pdf", mime_type="image/png"),
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PNG}},
        ),
        (
            "openai",
            File("audio", "local_file", extension=".mp3"),
            {"type": "input_audio", "input_audio": {"data": PNG.partition(",")[2], "format": "mp3"}},
        ),
        ("openai", File("audio", "local_file", extension=".ogg"), None),
        ("deepseek", File("image", "local_file"), None),
        ("openai", File("custom", "local_file"), None),
    ],
)
async def test_files(provider: str, file: File, part: dict[str, Any] | None):
    body = await body_of(provider, messages=[Message("user", "look", [file], "low")])
    text = {"type": "text", "text": "look"}
    assert body["messages"] == [{"role": "user", "content": [part, text] if part else "look"}]


async def test_without_a_store_files_go_by_their_address():
    file = File("image", "remote_url", remote_url="https://example.com/a.png")
    body = await build(ask(messages=[Message("user", "", [file])]), provider_of("openai"), None)
    assert body["messages"][0]["content"][0]["image_url"]["url"] == "https://example.com/a.png"


async def test_a_file_that_is_gone():
    with pytest.raises(NodeError, match="gone"):
        await body_of(messages=[Message("user", "", [File("image", "local_file", filename="gone")])])


async def test_a_prompt_of_which_nothing_is_left():
    with pytest.raises(NodeError, match="Nothing to send"):
        await body_of("deepseek", messages=[Message("user", "", [File("image", "local_file")])])


# -------------------------------------------------------------------------------------------------------- providers


@pytest.mark.parametrize(
    ("environ", "provider", "url"),
    [
        ({"OPENAI_API_KEY": "k"}, "openai", "https://api.openai.com/v1/chat/completions"),
        ({"DASHSCOPE_API_KEY": "k"}, "tongyi", "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"),
        ({}, "ollama", "http://localhost:11434/v1/chat/completions"),
        ({"OLLAMA_BASE_URL": "http://gpu:11434"}, "ollama", "http://gpu:11434/v1/chat/completions"),
        ({"VLLM_BASE_URL": " http://gpu/api/ "}, "vllm", "http://gpu/api/chat/completions"),
        (
            {"OPENAI_API_COMPATIBLE_BASE_URL": "http://a/v1/chat/completions"},
            "openai_api_compatible",
            "http://a/v1/chat/completions",
        ),
        ({"PERPLEXITY_API_KEY": "k", "PERPLEXITY_BASE_URL": "https://p"}, "perplexity", "https://p/chat/completions"),
        ({"MY_OWN_BASE_URL": "http://a/v1"}, "my-own", "http://a/v1/chat/completions"),
        ({"BEDROCK_BASE_URL": "http://gateway/v1"}, "bedrock", "http://gateway/v1/chat/completions"),
        (
            {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_BASE_URL": "https://x.openai.azure.com/"},
            "azure_openai",
            "https://x.openai.azure.com/openai/deployments/a%20b/chat/completions?api-version=2024-10-21",
        ),
        (
            {
                "AZURE_OPENAI_API_KEY": "k",
                "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com/openai/v1",
                "AZURE_OPENAI_API_VERSION": "v",
            },
            "azure_openai",
            "https://x.openai.azure.com/openai/v1/chat/completions",
        ),
    ],
)
def test_where_a_provider_is(environ: dict[str, str], provider: str, url: str):
    assert resolve(environ, provider).url("a b", "chat/completions") == url


def test_azure_has_a_header_of_its_own():
    endpoint = resolve({"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_BASE_URL": "https://x"}, "azure_openai")
    assert endpoint.headers == {"api-key": "k"}


@pytest.mark.parametrize(
    ("environ", "provider", "message"),
    [
        ({}, "openai", "OPENAI_API_KEY"),
        ({"OPENAI_API_KEY": "  "}, "langgenius/openai/openai", "OPENAI_API_KEY"),
        ({}, "langgenius/openai_api_compatible/openai_api_compatible", "OPENAI_API_COMPATIBLE_BASE_URL"),
        ({}, "azure_openai", "AZURE_OPENAI_BASE_URL and AZURE_OPENAI_API_KEY"),
        ({}, "langgenius/sagemaker/sagemaker", "Amazon SageMaker"),
        ({}, "vertex_ai", "VERTEX_PROJECT_ID"),
        ({}, "some/plugin/my-own", "MY_OWN_BASE_URL"),
        ({}, "demo", "--demo-model"),
        ({}, "", "no model is chosen"),
        ({"OPENAI_API_KEY": "a\nb"}, "openai", "OPENAI_API_KEY has characters"),
        (
            {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "localhost:80"},
            "openai",
            "OPENAI_BASE_URL is not a valid base URL",
        ),
        (
            {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://[::1"},
            "openai",
            "OPENAI_BASE_URL is not a valid base URL",
        ),
    ],
)
async def test_what_is_missing_is_named(environ: dict[str, str], provider: str, message: str):
    client = ModelClient(environ)
    assert message in (client.missing(provider) or "")
    with pytest.raises(NodeError) as raised:
        await anext(client.chat(ask(provider=provider)))
    assert raised.value.kind == "ProviderTokenNotInitError"
    assert str(raised.value) == client.missing(provider)


def test_nothing_lacks():
    client = ModelClient({"OPENAI_API_KEY": "k"})
    assert client.missing("langgenius/openai/openai") is None
    assert client.missing("ollama") is None


def test_the_table_covers_what_workflows_name():
    names = """openai openai_api_compatible deepseek tongyi siliconflow volcengine_maas moonshot zhipuai ollama groq
    openrouter xinference azure_openai minimax baichuan stepfun togetherai fireworks mistralai perplexity x nvidia
    localai vllm hunyuan spark yi gemini cohere anthropic"""
    assert set(names.split()) <= set(PROVIDERS)
