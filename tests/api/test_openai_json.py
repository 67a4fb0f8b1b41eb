"""A workflow's outputs as the JSON that OpenAI's clients ask for."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.api.chats import chatflow
from tests.api.serving import Client, Scripted, Serving, workflow
from tests.api.test_openai_facade import field, sdk, user


class Item(BaseModel):
    name: str


class Order(BaseModel):
    query: str
    count: int
    item: Item


@pytest.fixture
async def app(server: Serving) -> Client:
    form = [field("query"), field("count", "number"), field("item", "json_object")]
    return await server.add(
        "w.yml", workflow(variables=form, outputs={name: ["start", name] for name in ("query", "count", "item")})
    )


INPUTS: Any = {"inputs": {"count": 7, "item": {"name": "tea"}}}
WRONG: Any = {"inputs": {"count": 7, "item": {"name": 3}}}
OUTPUTS = {"query": "two", "count": 7, "item": {"name": "tea"}}


async def test_both_apis_parse_the_outputs(app: Client) -> None:
    async with sdk(app) as client:
        answer = await client.chat.completions.parse(
            model="tiny", messages=[user("two")], response_format=Order, extra_body=INPUTS
        )
        response = await client.responses.parse(model="tiny", input="two", text_format=Order, extra_body=INPUTS)
    assert answer.choices[0].message.parsed == response.output_parsed == Order.model_validate(OUTPUTS)


async def test_any_object_will_do_without_a_schema(app: Client) -> None:
    async with sdk(app) as client:
        answer = await client.chat.completions.create(
            model="tiny", messages=[user("two")], response_format={"type": "json_object"}, extra_body=INPUTS
        )
        assert json.loads(answer.choices[0].message.content or "") == OUTPUTS
        response = await client.responses.create(
            model="tiny", input="two", text={"format": {"type": "json_object"}}, extra_body=INPUTS
        )
    assert json.loads(response.output_text) == OUTPUTS


async def test_a_stream_has_the_outputs_too(app: Client) -> None:
    async with sdk(app) as client:
        async with client.responses.stream(model="tiny", input="two", text_format=Order, extra_body=INPUTS) as stream:
            assert (await stream.get_final_response()).output_parsed == Order.model_validate(OUTPUTS)
        async with client.chat.completions.stream(
            model="tiny", messages=[user("two")], response_format=Order, extra_body=INPUTS
        ) as chunks:
            assert (await chunks.get_final_completion()).choices[0].message.parsed == Order.model_validate(OUTPUTS)


async def test_outputs_that_do_not_match_are_an_error(app: Client) -> None:
    async with sdk(app) as client:
        for call in (
            client.chat.completions.parse(
                model="tiny", messages=[user("two")], response_format=Order, extra_body=WRONG
            ),
            client.responses.parse(model="tiny", input="two", text_format=Order, extra_body=WRONG),
        ):
            with pytest.raises(openai.BadRequestError, match=r"\$\.item\.name") as refused:
                await call
            assert refused.value.code == "schema_mismatch"
        stream = await client.responses.create(
            model="tiny", input="two", text={"format": schema(Order)}, extra_body=WRONG, stream=True
        )
        events = [event async for event in stream]
    assert [event.type for event in events] == ["response.created", "response.in_progress", "response.failed"]


def schema(model: type[BaseModel]) -> Any:
    return {"type": "json_schema", "name": "x", "schema": model.model_json_schema()}


async def test_an_output_that_the_workflow_does_not_have_is_known_before_it_runs(server: Serving) -> None:
    app = await server.add("w.yml", workflow(["never"], outputs={"query": ["never", "text"]}))
    Scripted.scripts.pop("never", None)
    async with sdk(app) as client:
        with pytest.raises(openai.BadRequestError, match="requires 'count'") as refused:
            await client.responses.parse(model="tiny", input="two", text_format=Order)
    assert (refused.value.param, refused.value.code) == ("text.format", "unsupported_parameter")


async def test_a_chat_answers_with_text(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow())
    async with sdk(app) as client:
        with pytest.raises(openai.BadRequestError, match="needs a workflow") as refused:
            await client.chat.completions.create(
                model="chat", messages=[user("two")], response_format={"type": "json_object"}
            )
    assert (refused.value.param, refused.value.code) == ("response_format", "unsupported_parameter")


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ({"type": 7}, "not valid"),
        ({"properties": {"query": {"pattern": "(a+)+$"}}}, "'pattern' is not supported"),
        ({"patternProperties": {"(a+)+$": {}}}, "'patternProperties' is not supported"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "which is not in it"),
        ({"$ref": "#"}, "without end, or too often"),
        ({"$defs": {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(40)} | {"d40": {}},
          "$ref": "#/$defs/d0"}, "without end, or too often"),
        (None, "must have a schema"),
    ],
)  # fmt: skip
async def test_a_schema_that_cannot_be_checked_is_refused(app: Client, described: Any, reason: str) -> None:
    body = {"model": "tiny", "input": "two", "text": {"format": {"type": "json_schema", "schema": described}}, **INPUTS}
    status, response = await app.call("POST", "/v1/openai/responses", json=body)
    assert status == 400
    assert reason in response["error"]["message"]


async def test_a_property_may_have_the_name_of_a_keyword(server: Serving) -> None:
    app = await server.add("w.yml", workflow(variables=[field("query")], outputs={"pattern": ["start", "query"]}))
    described: Any = {"type": "object", "properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}
    async with sdk(app) as client:
        response = await client.responses.create(
            model="tiny", input="two", text={"format": {"type": "json_schema", "name": "x", "schema": described}}
        )
    assert json.loads(response.output_text) == {"pattern": "two"}
