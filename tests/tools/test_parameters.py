"""What becomes of a tool's parameters before a call: Dify's table of types, defaults of settings, a model's schema."""

from __future__ import annotations

import pytest

from headrace.errors import NodeError
from headrace.ports.services import ParameterType, ToolParameter, ToolSpec
from headrace.ports.services.tool_parameters import arguments, cast_value, parameters_schema
from headrace.values import File, Value

FILE = File("document", "local_file", filename="a.txt", related_id="1")


@pytest.mark.parametrize(
    ("type_", "value", "cast"),
    [
        *[(text, None, "") for text in ("string", "secret-input", "select", "checkbox", "dynamic-select")],
        ("string", "a", "a"),
        ("string", 3, "3"),
        ("string", True, "True"),
        ("boolean", None, False),
        *[("boolean", text, True) for text in ("true", "Yes", "y", "1", "TRUE", "on")],
        *[("boolean", text, False) for text in ("false", "No", "n", "0", "")],
        ("boolean", 2, True),
        ("boolean", 0, False),
        ("number", 3, 3),
        ("number", 2.5, 2.5),
        ("number", "3", 3),
        ("number", "3.0", 3.0),
        ("number", "", None),
        ("number", None, None),
        ("file", [FILE], FILE),
        ("file", FILE, FILE),
        ("files", FILE, [FILE]),
        ("files", [FILE, FILE], [FILE, FILE]),
        ("system-files", FILE, [FILE]),
        ("model-selector", {"model": "m"}, {"model": "m"}),
        ("app-selector", {"app_id": "a"}, {"app_id": "a"}),
        ("array", "[1, 2]", [1, 2]),
        ("array", "a", ["a"]),
        ("array", {"a": 1}, [{"a": 1}]),
        ("array", [1], [1]),
        ("object", '{"a": 1}', {"a": 1}),
        ("object", "[1]", {}),
        ("object", "a", {}),
        ("object", {"a": 1}, {"a": 1}),
        ("any", [1], [1]),
        *[("any", value, value) for value in ("a", 1.5, {"a": 1})],
        ("any", None, None),
    ],
)
def test_a_value_is_cast_to_the_declared_type(type_: ParameterType, value: Value, cast: Value):
    result = cast_value(type_, value)
    assert result == cast
    assert type(result) is type(cast)


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        ("number", "three", "'three' is not a number"),
        ("file", [FILE, FILE], "only accepts one file"),
        ("file", [], "only accepts one file"),
        ("model-selector", "gpt", "must be a dictionary"),
        ("app-selector", None, "must be a dictionary"),
        ("any", FILE, "must be a string, dictionary, list or number"),
    ],
)
def test_a_value_that_has_no_such_form_is_refused(type_: ParameterType, value: Value, message: str):
    with pytest.raises(NodeError, match=message) as raised:
        cast_value(type_, value, "p")
    assert raised.value.kind == "ToolParameterError"
    assert "parameter p" in str(raised.value)


SPEC = ToolSpec(
    "search",
    parameters=(
        ToolParameter("query", required=True, description="What to look for"),
        ToolParameter("limit", "number"),
        ToolParameter("source", "select", options=("web", "news")),
        ToolParameter("filter", "object", input_schema={"type": "object", "properties": {"since": {"type": "string"}}}),
        ToolParameter("attachment", "file"),
        ToolParameter("engine", "select", form="form", default="fast", options=("fast", "deep")),
        ToolParameter("token", "secret-input", form="form", required=True),
    ),
)


def test_arguments_have_their_types_and_settings_their_defaults():
    assert arguments(SPEC, {"query": 1, "limit": "5", "extra": None}, {"token": "t"}) == {
        "query": "1",
        "limit": 5,
        "extra": None,
        "engine": "fast",
        "token": "t",
    }


def test_a_setting_wins_over_an_input_of_its_name():
    inputs = {"engine": "deep", "token": "from the input"}
    assert arguments(SPEC, inputs, {"token": "t", "engine": "fast"}) == {"engine": "fast", "token": "t"}
    assert arguments(SPEC, inputs, {}) == {"engine": "deep", "token": "from the input"}


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_an_empty_setting_has_its_default_and_is_missing_without_one(empty: Value):
    assert arguments(SPEC, {}, {"engine": empty, "token": "t"})["engine"] == "fast"
    with pytest.raises(NodeError, match="tool parameter token not found in tool config"):
        arguments(SPEC, {}, {"token": empty})


def test_a_select_takes_one_of_its_options():
    with pytest.raises(NodeError, match=r"tool parameter engine value slow not in options \['fast', 'deep'\]"):
        arguments(SPEC, {}, {"engine": "slow", "token": "t"})


def test_a_model_gets_a_schema_of_what_it_may_fill_in():
    assert parameters_schema(SPEC) == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for"},
            "limit": {"type": "number"},
            "source": {"type": "string", "enum": ["web", "news"]},
            "filter": {"type": "object", "properties": {"since": {"type": "string"}}},
        },
        "required": ["query"],
    }
