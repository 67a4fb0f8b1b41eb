"""What models cost, and the model that is none."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from headrace.adapters.models import ModelClient, load_prices
from headrace.adapters.models.prices import Price, Prices, parse_prices
from headrace.errors import LoadError, NodeError
from headrace.ports.services import Message
from tests.models.server import ask, hear, text_of


@pytest.mark.parametrize(
    ("provider", "model", "price"),
    [
        ("openai", "gpt-4o", Price(Decimal("0.0025"), Decimal("0.01"))),
        ("azure_openai", "gpt-4o-mini-2024-07-18", Price(Decimal("0.00015"), Decimal("0.0006"))),
        ("openai", "gpt-4o-audio", Price()),
        ("groq", "gpt-4o", Price()),
        ("tongyi", "qwen-max-latest", Price(Decimal("0.0024"), Decimal("0.0096"), "RMB")),
    ],
)
def test_list_prices(provider: str, model: str, price: Price):
    assert Prices().of(provider, model) == price


def test_a_user_s_own_prices_come_first():
    own = parse_prices({"gpt-4o": {"input": 1}, "groq/gpt-4o": {"output": "0.002", "per": 1000, "currency": "RMB"}})
    assert Prices(own).of("openai", "gpt-4o-2024-08-06") == Price(Decimal("0.001"))
    assert Prices(own).of("groq", "gpt-4o") == Price(output=Decimal("0.002"), currency="RMB")


def test_prices_of_a_file(tmp_path: Path):
    path = tmp_path / "prices.yml"
    path.write_text("deepseek-ai/DeepSeek-V3: {input: 2, output: 8, currency: RMB}\n")
    assert load_prices(str(path))["deepseek-ai/DeepSeek-V3"].output == Decimal("0.008")
    ModelClient({"HEADRACE_PRICES": str(path)})


def test_all_problems_of_a_table_are_reported(tmp_path: Path):
    path = tmp_path / "prices.json"
    path.write_text('{"a": 1, "b": {"input": -1}, "c": {"inptu": 1}, "d": {"input": true}, "e": {"per": 0}}')
    with pytest.raises(LoadError) as raised:
        load_prices(str(path))
    assert [problem.field for problem in raised.value.problems] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("content", [None, "[", "- 1", "", "\x00"])
def test_a_file_that_is_no_table(tmp_path: Path, content: str | None):
    path = tmp_path / "prices.yml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LoadError, match=r"prices\.yml"):
        ModelClient({"HEADRACE_PRICES": str(path)})


# ------------------------------------------------------------------------------------------------------------- demo


def demo(**environ: str) -> ModelClient:
    return ModelClient(environ, demo=True, demo_delay=0)


async def test_it_says_that_it_is_the_demo_model_and_quotes_the_prompt():
    chunks = await hear(demo(), ask("What is love?"))
    assert "demo model" in text_of(chunks)
    assert '"What is love?"' in text_of(chunks)
    assert len(chunks) > 10
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == len(chunks) - 1


async def test_chinese_comes_character_by_character():
    chunks = await hear(demo(), ask("宜蘭礁溪五日遊"))
    assert "「宜蘭礁溪五日遊」" in text_of(chunks)
    assert "示範模型" in text_of(chunks)
    assert "宜" in [chunk.text for chunk in chunks]


async def test_it_says_the_same_again():
    assert text_of(await hear(demo(), ask("a\n  b"))) == text_of(await hear(demo(), ask("a\n  b")))


async def test_it_serves_every_provider_without_credentials_and_none_with():
    environ = {
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OLLAMA_BASE_URL": "http://127.0.0.1:9",
    }
    client = ModelClient(environ, demo=True, demo_delay=0, tries=1)
    for name in ("vllm", "bedrock", "what", "demo"):
        assert "demo model" in text_of(await hear(client, ask(provider=name)))
    for name in ("a/openai/openai", "ollama"):
        with pytest.raises(NodeError, match="could not be reached"):
            await hear(client, ask(provider=name))
    assert client.missing("bedrock") is None
    await client.aclose()


async def test_a_long_prompt_is_quoted_in_part_and_an_empty_one_is_no_matter():
    assert len(text_of(await hear(demo(), ask("x" * 100_000)))) < 1000
    assert await hear(demo(), ask(messages=[]))


async def test_max_tokens():
    chunks = await hear(demo(), ask(parameters={"max_tokens": 3}))
    assert len(chunks) == 4
    assert chunks[-1].finish_reason == "length"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]},
        {"type": "object", "required": ["x"]},
        {
            "type": "object",
            "properties": {"a": {"enum": ["x", "y"]}, "b": {"const": 7}, "c": {"type": ["null", "string"]}},
        },
        {"type": "object", "properties": {"a": {"type": "number", "exclusiveMinimum": 5, "maximum": 6}}},
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "multipleOf": 5}}},
        {"type": "object", "properties": {"a": {"type": "integer", "maximum": -2}}},
        {
            "type": "object",
            "properties": {"a": {"type": "string", "minLength": 30}, "b": {"type": "string", "maxLength": 2}},
        },
        {"type": "object", "properties": {"a": {"type": "array", "minItems": 3, "items": {"type": "boolean"}}}},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}},
        {
            "allOf": [
                {"properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"properties": {"b": {"type": "number"}}},
            ]
        },
        {
            "type": "object",
            "properties": {"tree": {"$ref": "#/$defs/node"}},
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    },
                    "required": ["name"],
                }
            },
        },
    ],
)
async def test_a_schema_is_met(schema: dict[str, Any]):
    value = json.loads(text_of(await hear(demo(), ask(schema=schema))))
    jsonschema.validate(value, schema)
    as_parameters = {"response_format": "json_schema", "json_schema": json.dumps({"name": "n", "schema": schema})}
    assert json.loads(text_of(await hear(demo(), ask(parameters=as_parameters)))) == value


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"$ref": "#/nowhere"}, {"type": "weird"}, {"properties": {"a": 1}}, {"anyOf": []}, {}]
)
async def test_odd_schemas_do_no_harm(schema: dict[str, Any]):
    async with asyncio.timeout(60):
        json.loads(text_of(await hear(demo(), ask(schema=schema))))


async def test_a_schema_that_could_go_on_for_ever():
    names = [f"p{number}" for number in range(20)]
    schema = {"type": "object", "properties": {name: {"$ref": "#"} for name in names}, "required": names}
    async with asyncio.timeout(60):
        json.loads(text_of(await hear(demo(), ask(schema=schema))))


@pytest.mark.parametrize(
    "schema", [{"type": "string", "minLength": "x"}, {"anyOf": [1]}, {"required": 5, "type": "object"}, {"enum": 3}]
)
async def test_a_malformed_schema_is_reported(schema: dict[str, Any]):
    with pytest.raises(NodeError, match="schema for the answer is malformed"):
        await hear(demo(), ask(schema=schema))


async def test_json_of_any_kind():
    answer = text_of(await hear(demo(), ask(parameters={"response_format": "json_object"})))
    assert isinstance(json.loads(answer), dict)


async def test_stopping_it():
    client = ModelClient({}, demo=True, demo_delay=60)
    task = asyncio.create_task(hear(client, ask(messages=[Message("user", "hi")])))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait([task])
    assert task.cancelled()
