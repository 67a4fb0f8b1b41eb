"""start: what a run may be asked with."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from headrace.errors import InvalidParam, NodeError
from headrace.nodes.start import Start, StartConfig
from headrace.values import File, Value
from tests.nodes.plain import run

FORM: list[dict[str, Value]] = [
    {"variable": "text", "label": "text", "type": "text-input", "required": True, "max_length": 10},
    {"variable": "para", "label": "para", "type": "paragraph", "max_length": 20},
    {"variable": "sel", "label": "sel", "type": "select", "options": ["red", "green"]},
    {"variable": "num", "label": "num", "type": "number"},
    {"variable": "chk", "label": "chk", "type": "checkbox"},
    {"variable": "obj", "label": "obj", "type": "json_object"},
    {"variable": "file", "label": "file", "type": "file", "allowed_file_types": ["document", "image"]},
    {"variable": "files", "label": "files", "type": "file-list", "max_length": 2},
    {"variable": "defd", "label": "defd", "type": "text-input", "default": "dflt"},
]
NOTHING = dict.fromkeys(["para", "sel", "num", "chk", "obj", "file", "files"]) | {"defd": "dflt"}


async def resolve(mapping: Mapping[str, Value]) -> File:
    return File(mapping.get("type", "document"), mapping.get("transfer_method", "local_file"), extension=".txt")


async def accept(form: list[dict[str, Value]] = FORM, **inputs: Value) -> dict[str, Value]:
    return await Start(StartConfig.model_validate({"variables": form})).accept(inputs, resolve)


async def test_what_is_not_given_has_its_default_and_what_is_unknown_is_left_out():
    assert await accept(text="t", zzz=1) == {"text": "t", **NOTHING}


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("text", "", ""),
        ("text", "a\x00b", "ab"),
        ("text", "漢字🙂", "漢字🙂"),
        ("num", 3, 3),
        ("num", "12", 12),
        ("num", "12.5", 12.5),
        ("num", " ", None),
        ("num", True, True),
        ("num", 1e20, 1e20),
        ("chk", "yes", True),
        ("chk", "OFF", False),
        ("chk", 1, True),
        ("chk", 0, False),
        ("chk", True, True),
        ("sel", "green", "green"),
        ("obj", {"a": {"b": [1]}}, {"a": {"b": [1]}}),
        ("file", "", None),
        ("files", [], []),
        ("files", "", None),
        ("defd", None, "dflt"),
        ("defd", "x", "x"),
    ],
)
async def test_what_is_taken(name: str, value: Value, taken: Value):
    accepted = await accept(**{"text": "t", name: value})
    assert accepted[name] == taken
    assert type(accepted[name]) is type(taken)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("text", None, "text is required in input form"),
        ("text", 5, "(type 'text-input') text in input form must be a string"),
        ("text", ["x"], "(type 'text-input') text in input form must be a string"),
        ("text", "x" * 11, "text in input form must be less than 10 characters"),
        ("para", "x" * 21, "para in input form must be less than 20 characters"),
        ("sel", "", "sel in input form must be one of the following: ['red', 'green']"),
        ("num", "many", "num in input form must be a valid number"),
        ("num", [1], "num in input form must be a valid number"),
        ("num", {}, "num in input form must be a valid number"),
        ("obj", "{}", "obj in input form must be a dict"),
        ("obj", [1], "obj in input form must be a dict"),
        ("file", "x", "file in input form must be a file"),
        ("file", [{}], "file in input form must be a file"),
        ("file", {"type": "video"}, "file in input form must be a file of type document, image, not video"),
        ("files", {"type": "image"}, "files in input form must be a list of files"),
        ("files", ["x"], "files in input form must be a list of files"),
        ("files", [{}, {}, {}], "files in input form must be less than 2 files"),
    ],
)
async def test_what_is_refused(name: str, value: Value, message: str):
    with pytest.raises(InvalidParam) as refused:
        await accept(**{"text": "t", name: value})
    assert refused.value.message == message


async def test_files_become_files():
    accepted = await accept(text="t", file={"type": "image"}, files=[{"type": "image"}])
    assert accepted["file"] == File("image", "local_file", extension=".txt")
    assert accepted["files"] == [accepted["file"]]


async def test_a_file_must_come_as_the_form_allows():
    form: list[dict[str, Value]] = [
        {"variable": "f", "type": "file", "allowed_file_upload_methods": ["remote_url"]},
        {"variable": "c", "type": "file", "allowed_file_types": ["custom"], "allowed_file_extensions": [".PDF", "md"]},
    ]
    with pytest.raises(InvalidParam, match="may not be given by local_file"):
        await accept(form, f={"type": "image"})
    with pytest.raises(InvalidParam, match="must be a file of extension md, pdf"):
        await accept(form, c={"type": "document"})


async def test_the_form_is_reported_as_it_was_written():
    start = Start(StartConfig.model_validate({"variables": FORM}))
    assert start.form()[0] == {"text-input": FORM[0]}
    assert start.form()[2] == {"select": FORM[2]}


async def test_outputs_are_the_inputs_and_then_the_system_variables():
    result = await run(Start, {"variables": FORM}, {"sys": {"user_id": "u", "timestamp": 1}}, {"text": "t"})
    assert list(result.outputs.items()) == [("text", "t"), ("sys.user_id", "u"), ("sys.timestamp", 1)]
    assert result.inputs == result.outputs


async def test_a_chat_shows_its_question_and_its_conversation_but_not_the_time():
    texts: dict[str, Value] = {
        "files": [],
        "user_id": "abc-123",
        "query": "hey",
        "conversation_id": "13fa1b84",
        "dialogue_count": 1,
    }
    result = await run(Start, {"variables": FORM}, {"sys": {**texts, "timestamp": 1}}, {"text": "t"})
    assert list(result.outputs.items()) == [("text", "t"), *((f"sys.{name}", value) for name, value in texts.items())]
    assert result.inputs == result.outputs


SCHEMA = {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}


@pytest.mark.parametrize("schema", [SCHEMA, '{"type": "object", "required": ["a"]}'])
async def test_an_object_against_its_schema_fails_in_the_node(schema: Value):
    form = {"variables": [{"variable": "obj", "type": "json_object", "json_schema": schema}]}
    with pytest.raises(NodeError) as failed:
        await run(Start, form, inputs={"obj": {"b": 1}})
    assert str(failed.value) == "JSON object for 'obj' does not match schema: 'a' is a required property"
    assert (await run(Start, form, inputs={"obj": {"a": 1}})).outputs == {"obj": {"a": 1}}
    assert (await run(Start, form, inputs={"obj": None})).outputs == {"obj": None}


@pytest.mark.parametrize("schema", ["{", {"type": "nonsense"}, "[1]"])
def test_what_is_no_schema_is_reported_when_the_file_is_loaded(schema: Value):
    with pytest.raises(ValidationError):
        StartConfig.model_validate({"variables": [{"variable": "o", "type": "json_object", "json_schema": schema}]})
