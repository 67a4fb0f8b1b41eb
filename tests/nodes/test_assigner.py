"""assigner: every operation on every type, in both versions of the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.errors import NodeError
from headrace.node import Result
from headrace.nodes.assigner import Assigner
from headrace.values import File
from tests.nodes.plain import run

PICTURE = File("image", "remote_url", "a.png", url="http://h/a.png")
SCOPES: Mapping[str, Mapping[str, Any]] = {
    "conversation": {
        "text": "old", "number": 8, "ratio": 0.5, "flag": True, "object": {"a": 1}, "none": None,
        "texts": ["a", "b"], "numbers": [1, 2], "objects": [{"a": 1}], "flags": [True], "files": [], "empty": [],
    },
    "n": {"text": "new", "number": 3, "list": ["x", "y"], "numbers": [7],
        "nan": float("nan"), "nans": [1, float("nan")], "object": {"b": 2}, "none": None,
          "file": PICTURE, "deep": {"in": {"side": "found"}}, "flag": False},
    "env": {"KEY": "k"},
}  # fmt: skip


async def assign(name: str, operation: str, value: Any = None, kind: str | None = None) -> Result:
    """One operation on a conversation variable; a list that names a scope is a selector."""
    source = kind or ("variable" if isinstance(value, list) and value and value[0] in SCOPES else "constant")
    item = {
        "variable_selector": ["conversation", name],
        "operation": operation,
        "input_type": source,
        "value": value,
    }
    return await run(Assigner, {"version": "2", "items": [item]}, SCOPES)


async def test_a_node_without_a_description_has_null():
    assert (await assign("text", "set", "x")).inputs["desc"] is None
    config = {"version": "2", "desc": "why", "items": []}
    assert (await run(Assigner, config, SCOPES)).inputs["desc"] == "why"


@pytest.mark.parametrize(
    ("name", "operation", "value", "result_value"),
    [
        ("text", "over-write", ["n", "text"], "new"),
        ("text", "over-write", "typed", "typed"),
        ("text", "set", "typed", "typed"),
        ("text", "over-write", ["n", "deep", "in", "side"], "found"),
        ("text", "clear", None, ""),
        ("number", "over-write", ["n", "number"], 3),
        ("number", "set", 5, 5),
        ("number", "+=", 2, 10),
        ("number", "-=", 2, 6),
        ("number", "*=", 2.5, 20.0),
        ("number", "/=", 4, 2.0),
        ("ratio", "+=", 1, 1.5),
        ("number", "clear", None, 0),
        ("flag", "set", False, False),
        ("flag", "over-write", ["n", "flag"], False),
        ("flag", "clear", None, False),
        ("object", "set", '{"c": [3]}', {"c": [3]}),
        ("object", "set", {"c": 3}, {"c": 3}),
        ("object", "over-write", ["n", "object"], {"b": 2}),
        ("object", "clear", None, {}),
        ("texts", "over-write", ["n", "list"], ["x", "y"]),
        ("texts", "append", ["n", "text"], ["a", "b", "new"]),
        ("texts", "extend", ["n", "list"], ["a", "b", "x", "y"]),
        ("texts", "remove-first", None, ["b"]),
        ("texts", "remove-last", None, ["a"]),
        ("texts", "clear", None, []),
        ("numbers", "append", ["n", "number"], [1, 2, 3]),
        ("numbers", "extend", ["n", "numbers"], [1, 2, 7]),
        ("objects", "append", ["n", "object"], [{"a": 1}, {"b": 2}]),
        ("flags", "append", ["n", "flag"], [True, False]),
        ("files", "append", ["n", "file"], [PICTURE]),
        ("empty", "append", ["n", "text"], ["new"]),
        ("empty", "remove-first", None, []),
        ("none", "over-write", ["n", "text"], "new"),
    ],
)
async def test_operations(name: str, operation: str, value: Any, result_value: Any):
    result = await assign(name, operation, value)
    assert result.assigned == {"conversation": {name: result_value}}
    assert result.outputs == {}
    assert result.process[name] == result_value


@pytest.mark.parametrize(
    ("name", "operation", "value", "error"),
    [
        ("text", "+=", 1, "Operation += is not supported for type string"),
        ("text", "append", ["n", "text"], "Operation append is not supported for type string"),
        ("texts", "set", ["n", "list"], "Operation set is not supported for type array[string]"),
        ("texts", "append", "typed", "Input type constant is not supported for operation append"),
        ("number", "+=", ["n", "number"], "Input type variable is not supported for operation +="),
        ("number", "over-write", ["n", "text"], "Invalid input value new"),
        ("number", "set", "5", "Invalid input value 5"),
        ("number", "/=", 0, "Invalid input value 0"),
        ("texts", "append", ["n", "number"], "Invalid input value 3"),
        ("texts", "extend", ["n", "numbers"], "Invalid input value [7]"),
        ("texts", "extend", ["n", "text"], "Invalid input value new"),
        ("numbers", "append", ["n", "nan"], "Invalid input value nan"),
        ("numbers", "extend", ["n", "nans"], "Invalid input value [1, nan]"),
        ("numbers", "over-write", ["n", "nans"], "Invalid input value [1, nan]"),
        ("number", "over-write", ["n", "nan"], "Invalid input value nan"),
        ("number", "set", float("inf"), "Invalid input value inf"),
        ("object", "set", "{", "Invalid input value {"),
        ("flag", "set", "true", "Invalid input value true"),
        ("gone", "clear", None, "Variable ['conversation', 'gone'] not found"),
        ("text", "over-write", ["n", "gone"], "Variable ['n', 'gone'] not found"),
    ],
)
async def test_what_does_not_go(name: str, operation: str, value: Any, error: str):
    with pytest.raises(NodeError) as failed:
        await assign(name, operation, value, "variable" if error.startswith("Input type v") else None)
    assert (str(failed.value), failed.value.kind) == (error, "VariableOperatorNodeError")
    assert failed.value.inputs["items"][0]["operation"] == operation


async def test_nothing_takes_nothings_place():
    assert (await assign("text", "over-write", ["n", "none"])).assigned == {}


async def test_each_operation_sees_what_those_before_wrote_and_all_or_none_holds():
    items = [
        {"variable_selector": ["conversation", "number"], "operation": "+=", "input_type": "constant", "value": 1},
        {"variable_selector": ["conversation", "number"], "operation": "*=", "input_type": "constant", "value": 2},
        {"variable_selector": ["lp", "n"], "operation": "over-write", "input_type": "variable",
         "value": ["conversation", "number"]},
    ]  # fmt: skip
    result = await run(Assigner, {"version": "2", "title": "A", "items": items}, {**SCOPES, "lp": {"n": 0}})
    assert result.assigned == {"conversation": {"number": 18}, "lp": {"n": 18}}
    assert result.process["__updated_variables"] == [
        {"name": "number", "selector": ["conversation", "number"], "value_type": "integer", "new_value": 18},
        {"name": "n", "selector": ["lp", "n"], "value_type": "integer", "new_value": 18},
    ]
    bad = {"variable_selector": ["conversation", "text"], "operation": "+=", "input_type": "constant", "value": 1}
    with pytest.raises(NodeError):
        await run(Assigner, {"version": "2", "items": [*items, bad]}, {**SCOPES, "lp": {"n": 0}})


@pytest.mark.parametrize("scope", ["env", "sys"])
async def test_what_cannot_be_assigned(scope: str):
    item = {"variable_selector": [scope, "KEY"], "operation": "clear", "input_type": "constant"}
    with pytest.raises(NodeError, match="cannot be assigned"):
        await run(Assigner, {"version": "2", "items": [item]}, {**SCOPES, "sys": {"KEY": "x"}})


@pytest.mark.parametrize(("name", "cleared"), [("number", "0"), ("ratio", "0.0")])
async def test_a_number_that_is_cleared_stays_an_integer_or_a_float(name: str, cleared: str):
    result = await assign(name, "clear", None)
    assert repr(result.process[name]) == cleared


@pytest.mark.parametrize(
    ("name", "mode", "source", "value", "result_value"),
    [
        ("text", "over-write", ["n", "text"], "new", "new"),
        ("texts", "append", ["n", "text"], "new", ["a", "b", "new"]),
        ("texts", "append", ["n", "list"], ["x", "y"], ["a", "b", ["x", "y"]]),
        ("number", "clear", [], 0, 0),
    ],
)
async def test_the_first_version_of_the_node(name: str, mode: str, source: list[str], value: Any, result_value: Any):
    config = {
        "assigned_variable_selector": ["conversation", name],
        "write_mode": mode,
        "input_variable_selector": source,
    }
    result = await run(Assigner, config, SCOPES)
    assert (result.assigned, result.inputs) == ({"conversation": {name: result_value}}, {"value": value})


@pytest.mark.parametrize(
    ("name", "mode", "source", "error"),
    [
        ("gone", "over-write", ["n", "text"], "assigned variable not found"),
        ("text", "over-write", ["n", "gone"], "input value not found"),
        ("text", "append", ["n", "text"], "append mode requires an array variable"),
    ],
)
async def test_what_the_first_version_refuses(name: str, mode: str, source: list[str], error: str):
    config = {
        "assigned_variable_selector": ["conversation", name],
        "write_mode": mode,
        "input_variable_selector": source,
    }
    with pytest.raises(NodeError, match=error):
        await run(Assigner, config, SCOPES)


@pytest.mark.parametrize(
    ("name", "operation", "value"), [("number", "*=", 10**400), ("ratio", "*=", 1e308), ("number", "+=", 1.8e308)]
)
async def test_numbers_that_are_none_any_more(name: str, operation: str, value: Any):
    scopes = {"conversation": {"number": 8, "ratio": 1e10}}
    item = {"variable_selector": ["conversation", name], "operation": operation, "input_type": "constant"}
    with pytest.raises(NodeError, match="Invalid input value"):
        await run(Assigner, {"version": "2", "items": [{**item, "value": value}]}, scopes)


async def test_a_list_does_not_grow_without_end():
    scopes = {"conversation": {"texts": ["a"] * 60_000}}
    item = {"variable_selector": ["conversation", "texts"], "operation": "extend", "input_type": "variable"}
    with pytest.raises(NodeError, match="more than 100000 items"):
        await run(Assigner, {"version": "2", "items": [{**item, "value": ["conversation", "texts"]}]}, scopes)


# ------------------------------------------------------------------------------------------------------ declared types

TYPES = {
    ("conversation", name): kind
    for name, kind in {
        "words": "array[string]", "counts": "array[number]", "things": "array[object]", "all": "array[any]",
        "flags": "array[boolean]", "files": "array[file]", "word": "string", "count": "number", "thing": "object",
        "flag": "boolean", "unset": "number", "wrong": "number", "odd": "array[string]",
    }.items()
} | {("lp", "texts"): "array[string]", ("lp", "other"): "string"}  # fmt: skip
DECLARED: Mapping[str, Mapping[str, Any]] = {
    "conversation": {
        "words": [], "counts": [], "things": [], "all": [], "flags": [], "files": [], "word": "", "count": 0,
        "thing": {}, "flag": False, "unset": None, "wrong": "text", "odd": [{"a": 1}],
    },
    "lp": {"texts": [], "other": 5},
    "n": {"text": "t", "number": 3, "fraction": 0.5, "flag": True, "object": {"a": 1}, "none": None, "file": PICTURE,
          "texts": ["t"], "numbers": [1], "objects": [{}], "flags": [True], "mixed": ["t", 1], "nothing": [],
          "files": [PICTURE]},
}  # fmt: skip


async def declared(target: str, operation: str, value: Any, version: str = "2") -> Any:
    """What a variable of a declared type holds after an operation."""
    scope, name = target.split(".") if "." in target else ("conversation", target)
    selector = ["n", value] if isinstance(value, str) else None
    if version == "1":
        config = {"assigned_variable_selector": [scope, name], "write_mode": operation}
        config |= {"input_variable_selector": selector or []}
    else:
        item = {"variable_selector": [scope, name], "operation": operation, "value": selector or value}
        config = {"version": "2", "items": [item | {"input_type": "variable" if selector else "constant"}]}
    result = await run(Assigner, config, DECLARED, types=TYPES)
    return result.assigned.get(scope, {}).get(name, "nothing")


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    ("target", "operation", "fits", "others"),
    [
        ("words", "append", ["text"], ["number", "object", "flag", "file", "texts"]),
        ("counts", "append", ["number", "fraction", "flag"], ["text", "object", "file"]),
        ("things", "append", ["object"], ["text", "number", "flag", "file"]),
        ("flags", "append", ["flag"], ["text", "number", "object"]),
        ("files", "append", ["file"], ["text", "number", "object"]),
        ("all", "append", ["text", "number", "flag", "object", "file"], []),
        ("lp.texts", "append", ["text"], ["number", "object"]),
        ("words", "over-write", ["texts", "nothing"], ["text", "numbers", "mixed", "objects", "files", "object"]),
        ("counts", "over-write", ["numbers", "nothing", "flags"], ["texts", "mixed", "number"]),
        ("things", "over-write", ["objects", "nothing"], ["texts", "object"]),
        ("all", "over-write", ["texts", "mixed", "objects", "nothing"], ["text"]),
        ("lp.texts", "over-write", ["texts"], ["numbers"]),
        ("word", "over-write", ["text"], ["number", "flag", "object", "texts"]),
        ("count", "over-write", ["number", "fraction", "flag"], ["text", "object", "numbers"]),
        ("thing", "over-write", ["object"], ["text", "texts"]),
        ("flag", "over-write", ["flag"], ["text", "number"]),
        ("wrong", "over-write", ["number"], ["text"]),
        ("odd", "append", ["text"], ["object"]),
    ],
)
async def test_only_what_is_of_the_declared_type_goes_in(
    target: str, operation: str, fits: list[str], others: list[str], version: str
):
    for name in fits:
        assert await declared(target, operation, name, version) != "nothing"
    for name in others:
        with pytest.raises(NodeError, match="Invalid input value"):
            await declared(target, operation, name, version)


@pytest.mark.parametrize(
    ("target", "value", "fits"),
    [("words", "texts", True), ("words", "nothing", True), ("words", "numbers", False), ("words", "mixed", False),
     ("counts", "numbers", True), ("counts", "texts", False), ("all", "mixed", True), ("words", "text", False)],
)  # fmt: skip
async def test_a_list_is_extended_by_what_is_of_its_type(target: str, value: str, fits: bool):
    if fits:
        assert await declared(target, "extend", value) == DECLARED["n"][value]
        return
    with pytest.raises(NodeError, match="Invalid input value"):
        await declared(target, "extend", value)


async def test_numbers_are_kept_as_numbers():
    assert await declared("count", "over-write", "flag") == 1
    assert await declared("count", "over-write", "flag") is not True
    assert await declared("counts", "append", "flag") == [1]
    assert await declared("counts", "over-write", "flags", "1") == [1]
    assert await declared("unset", "+=", 2) == 2
    assert await declared("wrong", "+=", 2) == 2  # an earlier version of the app had left a text there
    assert await declared("unset", "clear", None) == 0
    assert await declared("unset", "clear", None, "1") == 0
    assert await declared("odd", "append", "text") == [{"a": 1}, "t"]


async def test_nothing_takes_nothing_s_place_in_the_first_version_either():
    assert await declared("word", "over-write", "none", "1") == "nothing"


async def test_a_loop_variable_that_began_with_another_type_is_of_that():
    assert await declared("lp.other", "+=", 2) == 7


async def test_the_declared_type_is_reported():
    config = {"version": "2", "items": [{"variable_selector": ["conversation", "words"], "operation": "clear"}]}
    result = await run(Assigner, config, DECLARED, types=TYPES)
    [updated] = result.process["__updated_variables"]
    assert (updated["value_type"], updated["new_value"]) == ("array[string]", [])
