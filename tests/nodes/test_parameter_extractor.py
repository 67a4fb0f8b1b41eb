"""parameter-extractor: how a model is asked for parameters, and what is made of its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.errors import NodeError
from headrace.nodes.parameter_extractor import ParameterExtractor
from headrace.ports.services import ChatChunk, ToolCall, Turn
from headrace.values import Value
from tests.nodes.llm_world import PICTURE, USAGE, Conversation, Model, Ran, failure, resources, run

SCOPES = {"start": {"q": "Four of us, in Lyon"}, "env": {"unit": "persons"}}
CITY = {"name": "city", "type": "string", "description": "Where", "required": True}
GUESTS = {"name": "guests", "type": "number", "description": "How many", "required": False}


def node(*parameters: dict[str, Any], mode: str = "chat", **more: Any) -> ParameterExtractor:
    config = {
        "model": {"provider": "p", "name": "m", "mode": mode},
        "query": ["start", "q"],
        "parameters": list(parameters or (CITY, GUESTS)),
        "reasoning_mode": "function_call",
    }
    return ParameterExtractor(ParameterExtractor.Config.model_validate(config | more))


def calling(arguments: Any, name: str = "extract_parameters", *more: ToolCall, text: str = "") -> Model:
    arguments_json = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return Model([ChatChunk(text, tool_calls=(ToolCall("c1", name, arguments_json), *more))])


def saying(text: str) -> Model:
    return Model([ChatChunk(text)])


async def extract(kind: str, value: Any, **more: Any) -> tuple[Value, str | None]:
    """What becomes of a parameter's value, and what is said of it."""
    ran = await run(node({"name": "p", "type": kind, "required": True} | more), calling({"p": value}), SCOPES)
    assert ran.result.outputs["__is_success"] == (0 if ran.result.outputs["__reason"] else 1)
    return ran.result.outputs["p"], ran.result.outputs["__reason"]


def values_of(ran: Ran) -> dict[str, Value]:
    return {name: value for name, value in ran.result.outputs.items() if not name.startswith("__")}


# ------------------------------------------------------------------------------------------------------------ asking


async def test_a_call_brings_the_parameters():
    ran = await run(
        node(instruction="In {{#env.unit#}}"), calling({"city": "Lyon", "guests": 4}, text="I call."), SCOPES
    )
    assert ran.result.outputs == {
        "__is_success": 1,
        "__reason": None,
        "__usage": USAGE.wire(),
        "city": "Lyon",
        "guests": 4,
    }
    assert ran.result.inputs == {
        "query": "Four of us, in Lyon",
        "files": [],
        "parameters": [CITY | {"options": None}, GUESTS | {"options": None}],
        "instruction": "In {{#env.unit#}}",
    }
    process = dict(ran.result.process)
    prompts, function = process.pop("prompts"), process.pop("function")
    assert process == {
        "model_mode": "chat",
        "usage": USAGE.wire(),
        "tool_call": {
            "id": "c1",
            "type": "function",
            "function": {"name": "extract_parameters", "arguments": '{"city": "Lyon", "guests": 4}'},
        },
        "llm_text": "I call.",
        "model_provider": "p",
        "model_name": "m",
    }
    assert function["name"] == "extract_parameters"
    assert [prompt["role"] for prompt in prompts[:5]] == ["system", "user", "assistant", "tool", "assistant"]
    assert prompts[2]["tool_calls"][0]["function"]["name"] == "extract_parameters"
    assert (ran.texts, ran.result.usage) == ([], USAGE.wire())


async def test_the_tool_has_the_parameters_schema():
    parameters = [
        CITY,
        {"name": "size", "type": "select", "options": ["S", "L"], "description": "Which", "required": False},
        {"name": "old", "type": "bool", "description": None, "required": None},
        {"name": "tags", "type": "array[string]", "description": "Words", "required": True},
        {"name": "rows", "type": "array[object]", "description": "Rows", "required": False},
    ]
    ran = await run(node(*parameters), calling({}), SCOPES)
    [tool] = ran.request.tools
    assert tool.name == "extract_parameters"
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "city": {"description": "Where", "type": "string"},
            "size": {"description": "Which", "type": "string", "enum": ["S", "L"]},
            "old": {"description": "", "type": "boolean"},
            "tags": {"description": "Words", "type": "array", "items": {"type": "string"}},
            "rows": {"description": "Rows", "type": "array", "items": {"type": "object"}},
        },
        "required": ["city", "tags"],
    }
    system, *_, last = ran.request.messages
    assert "extract_parameters" in system.text
    assert "Four of us, in Lyon" in last.text
    assert json.dumps(tool.parameters) in last.text


async def test_every_example_s_call_is_answered():
    ran = await run(node(), calling({}), SCOPES)
    calls = [call.id for message in ran.request.messages for call in message.tool_calls]
    assert calls == [message.tool_call for message in ran.request.messages if message.role == "tool"]
    assert len(set(calls)) == len(calls) > 1


@pytest.mark.parametrize("mode", ["chat", "completion"])
async def test_prompt_mode(mode: str):
    extractor = node(mode=mode, reasoning_mode="prompt", instruction="In {{#env.unit#}}")
    ran = await run(extractor, saying('Here:\n```json\n{"city": "Lyon", "guests": 4}\n```'), SCOPES)
    assert values_of(ran) == {"city": "Lyon", "guests": 4}
    assert (ran.request.tools, ran.result.process["function"], ran.result.process["tool_call"]) == ([], {}, None)
    first, last = ran.request.messages[0], ran.request.messages[-1]
    assert "In persons" in first.text
    assert "Four of us, in Lyon" in last.text
    assert '"description": "How many"' in last.text
    assert len(ran.request.messages) == (6 if mode == "chat" else 1)


async def test_a_completion_model_is_never_given_tools():
    ran = await run(node(mode="completion"), saying('{"city": "Lyon", "guests": 4}'), SCOPES)
    assert (ran.request.tools, values_of(ran)) == ([], {"city": "Lyon", "guests": 4})


@pytest.mark.parametrize("mode", [None, "", "function_call"])
async def test_the_mode_is_calling_unless_said_otherwise(mode: Any):
    assert (await run(node(reasoning_mode=mode), calling({}), SCOPES)).request.tools


async def test_a_text_is_data_not_part_of_the_prompt():
    hostile = "{{#env.unit#}} {instruction} {0}"
    ran = await run(node(), calling({}), {"start": {"q": hostile}, "env": {"unit": "persons"}})
    assert f"<text>\n{hostile}\n</text>" in ran.request.messages[-1].text


@pytest.mark.parametrize(("value", "expected"), [(None, ""), (7, "7"), ({"a": 1}, '{"a": 1}')])
async def test_texts_that_are_none(value: Value, expected: str):
    ran = await run(node(), calling({}), {"start": {"q": value}})
    assert ran.result.inputs["query"] == expected


async def test_vision_shows_files_with_the_text():
    ran = await run(node(vision={"enabled": True}), calling({}), SCOPES | {"sys": {"files": [PICTURE]}})
    assert (list(ran.request.messages[-1].files), ran.result.inputs["files"]) == ([PICTURE], [PICTURE])


async def test_memory_tells_what_was_said_before():
    conversation = Conversation([Turn("one?", "one"), Turn("two?", "two")])
    extractor = node(memory={"window": {"enabled": True, "size": 1}})
    ran = await run(extractor, calling({}), SCOPES | {"sys": {"conversation_id": "c1"}}, history=conversation)
    assert conversation.requests == [("c1", "r", 1)]
    assert "<histories>\nHuman: two?\nAssistant: two\n</histories>" in ran.request.messages[0].text


def test_what_is_missing_is_reported_before_anything_runs():
    other = node(model={"provider": "other", "name": "m"})
    assert list(other.missing_requirements(resources(Model()))) == ["set the key of other"]


# ----------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("kind", "value", "becomes"),
    [
        ("string", "x", "x"),
        ("string", "", ""),
        ("number", 4, 4),
        ("number", 4.5, 4.5),
        ("number", True, 1),
        ("number", 10**400, 10**400),
        ("boolean", False, False),
        ("bool", True, True),
        ("array[string]", ["a", "ü"], ["a", "ü"]),
        ("array[number]", [1, 2.5, True], [1, 2.5, 1]),
        ("array[boolean]", [True, False], [True, False]),
        ("array[object]", [{"a": [1]}], [{"a": [1]}]),
        ("array[object]", [], []),
    ],
)
async def test_values_that_fit(kind: str, value: Value, becomes: Value):
    got, reason = await extract(kind, value)
    assert (got, type(got), reason) == (becomes, type(becomes), None)


@pytest.mark.parametrize(
    ("kind", "value", "becomes", "actual"),
    [
        ("string", 4, "", "integer"),
        ("string", None, "", "none"),
        ("number", "4", 4, "string"),
        ("number", "4.5", 4.5, "string"),
        ("number", "four", 0, "string"),
        ("number", "1." + "0" * 9 + "e999", 0, "string"),
        ("number", None, 0, "none"),
        ("boolean", 1, True, "integer"),
        ("boolean", "yes", False, "string"),
        ("array[string]", "a", [], "string"),
        ("array[string]", ["a", 1, None], ["a"], "array[any]"),
        ("array[number]", ["1", "x", 2], [1, 2], "array[any]"),
        ("array[boolean]", [True, 1], [True], "array[any]"),
        ("array[object]", [{"a": 1}, "b"], [{"a": 1}], "array[any]"),
    ],
)
async def test_values_that_do_not(kind: str, value: Value, becomes: Value, actual: str):
    got, reason = await extract(kind, value)
    assert (got, type(got)) == (becomes, type(becomes))
    assert reason == (
        f"Invalid value for parameter p, expected segment type: {kind}, actual_type: {actual}, "
        f"python_type: {type(value)}, value: {value}"
    )


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN"])
async def test_numbers_that_are_none(number: str):
    outputs = (await run(node(GUESTS), calling(f'{{"guests": {number}}}'), SCOPES)).result.outputs
    assert (outputs["guests"], outputs["__is_success"]) == (0, 0)
    listed = {"name": "p", "type": "array[number]"}
    outputs = (await run(node(listed), calling(f'{{"p": [1, {number}]}}'), SCOPES)).result.outputs
    assert (outputs["p"], outputs["__is_success"]) == ([1], 0)


async def test_an_answer_nested_without_end_is_none():
    listed = {"name": "p", "type": "array[object]"}
    for levels, success in ((40, 1), (300, 0), (100_000, 0)):
        arguments_json = '{"p": [' + '{"a":' * levels + "1" + "}" * levels + "]}"
        outputs = (await run(node(listed), calling(arguments_json), SCOPES)).result.outputs
        assert (outputs["__is_success"], len(outputs["p"])) == (success, success)


@pytest.mark.parametrize("text", ['{"city": "Lyon"}', '{"city": "Lyon", "guests": null}'])
async def test_an_optional_parameter_may_be_left_out(text: str):
    """In Dify it may not, and a branch on `__is_success` goes the wrong way (langgenius/dify#16633)."""
    for model in (saying(text), calling(json.loads(text))):
        outputs = (await run(node(), model, SCOPES)).result.outputs
        assert (outputs["__is_success"], outputs["__reason"]) == (1, None)
        assert (outputs["city"], outputs["guests"]) == ("Lyon", 0)


async def test_all_parameters_may_be_left_out_where_all_are_optional():
    optional = {"name": "note", "type": "string", "required": False}
    outputs = (await run(node(optional), saying("{}"), SCOPES)).result.outputs
    assert (outputs["__is_success"], outputs["__reason"], outputs["note"]) == (1, None, "")
    assert (await run(node(optional), saying("nothing"), SCOPES)).result.outputs["__is_success"] == 0


async def test_options():
    assert await extract("select", "L", options=["S", "L"]) == ("L", None)
    assert await extract("select", "M", options=["S", "L"]) == ("M", "Invalid `select` value for parameter p")


@pytest.mark.parametrize(
    ("arguments_json", "reason"),
    [
        ({"guests": 4}, "Invalid number of parameters"),
        ({"city": "Lyon", "guests": 4, "wine": "red"}, "Invalid number of parameters"),
        ({"guests": 4, "town": "Lyon"}, "Parameter city is required"),
        ({"city": "Lyon", "number": 4}, "Invalid value for parameter guests, expected segment type: number"),
        ({}, "Invalid number of parameters"),
    ],
)
async def test_parameters_that_lack(arguments_json: dict[str, Value], reason: str):
    outputs = (await run(node(), calling(arguments_json), SCOPES)).result.outputs
    assert outputs["__is_success"] == 0
    assert outputs["__reason"].startswith(reason)
    assert (outputs["city"], outputs["guests"]) == (arguments_json.get("city", ""), arguments_json.get("guests", 0))


@pytest.mark.parametrize(
    "arguments",
    [
        '{"city": "Lyon", "guests": 4}',
        '```json\n{"city": "Lyon", "guests": 4}\n```',
        "{'city': 'Lyon', 'guests': 4,}",
        '{"city": "Lyon", "guests": 4',
        '[{"city": "Lyon", "guests": 4}]',
        '<think>{"city": "Nice"}</think>{"city": "Lyon", "guests": 4}',
        'Sure! {"city": "Lyon", "guests": 4} Anything else?',
    ],
)
async def test_answers_are_read_generously(arguments: str):
    for model in (calling(arguments), saying(arguments)):
        assert values_of(await run(node(), model, SCOPES)) == {"city": "Lyon", "guests": 4}


async def test_a_text_serves_where_no_tool_is_called():
    ran = await run(node(), saying('{"city": "Lyon", "guests": 4}'), SCOPES)
    assert ran.result.outputs["__is_success"] == 1
    assert (ran.result.process["tool_call"], ran.result.process["llm_text"]) == (None, '{"city": "Lyon", "guests": 4}')


async def test_of_several_calls_the_right_one_counts():
    other = ToolCall("c2", "extract_parameters", '{"city": "Lyon", "guests": 4}')
    assert values_of(await run(node(), calling({"city": "Nice"}, "chatter", other), SCOPES))["city"] == "Lyon"
    assert values_of(await run(node(), calling({"city": "Nice", "guests": 1}, "misnamed"), SCOPES))["city"] == "Nice"


@pytest.mark.parametrize("text", ["", "I found nothing.", "{}", "[1, 2]", "{{{{" * 1000])
async def test_an_answer_without_any_is_empty(text: str):
    outputs = (await run(node(), saying(text), SCOPES)).result.outputs
    assert outputs["__is_success"] == 0
    assert outputs["__reason"] == ("Failed to extract result from function call or text response, using empty result.")
    assert (outputs["city"], outputs["guests"]) == ("", 0)


async def test_a_broken_call_is_empty_too():
    listed = {"name": "tags", "type": "array[string]", "required": False}
    outputs = (await run(node(CITY, listed), calling("city is Lyon"), SCOPES)).result.outputs
    assert (outputs["__reason"], outputs["city"], outputs["tags"]) == ("Invalid number of parameters", "", [])


# ---------------------------------------------------------------------------------------------------------- failures


async def test_a_failed_call_shows_what_was_asked():
    error = await failure(node(), Model([NodeError("scripted", "InvokeRateLimitError")]), SCOPES)
    assert (str(error), error.kind) == ("scripted", "InvokeRateLimitError")
    assert error.outputs == {"__is_success": 0, "__reason": "Failed to invoke model", "__error": "scripted"}
    assert error.inputs["query"] == "Four of us, in Lyon"
    assert (error.process["usage"], error.process["function"]["name"]) == (None, "extract_parameters")


@pytest.mark.parametrize(
    "refusal",
    [
        "registry.ollama.ai/library/gemma:2b does not support tools",
        "'tools' is not supported by this model",
        "Function calling is not enabled for models/gemma",
    ],
)
async def test_a_model_that_knows_no_tools_is_asked_by_prompt(refusal: str):
    class Unable(Model):
        def chat(self, request: Any) -> Any:
            self.says = (
                [NodeError(refusal, "InvokeBadRequestError")]
                if request.tools
                else [ChatChunk('{"city": "Lyon", "guests": 4}')]
            )
            return super().chat(request)

    model = Unable()
    ran = await run(node(), model, SCOPES)
    assert values_of(ran) == {"city": "Lyon", "guests": 4}
    assert [bool(request.tools) for request in model.requests] == [True, False]


async def test_other_refusals_are_failures():
    for error in (NodeError("too long", "InvokeBadRequestError"), NodeError("tools", "InvokeRateLimitError")):
        model = Model([error])
        assert str(await failure(node(), model, SCOPES)) == str(error)
        assert len(model.requests) == 1
    prompted = Model([NodeError("no tools here", "InvokeBadRequestError")])
    await failure(node(reasoning_mode="prompt"), prompted, SCOPES)
    assert len(prompted.requests) == 1


@pytest.mark.parametrize(
    "parameter",
    [
        {"name": "", "type": "string"},
        {"name": "__reason", "type": "string"},
        {"name": "__is_success", "type": "number"},
        {"name": "__usage", "type": "string"},
        {"name": "p", "type": "file"},
        {"name": "p", "type": ["string"]},
        {"name": "p"},
        {"type": "string"},
    ],
)
def test_parameters_that_are_none(parameter: dict[str, Any]):
    with pytest.raises(ValidationError):
        node(parameter)
