"""The code node: what its program is given, and what becomes of what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
from pydantic import ValidationError

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError
from headrace.kernel.graph import NodeSpec
from headrace.kernel.variables import Variables
from headrace.node import Context, Result
from headrace.nodes.code import Code, CodeConfig
from headrace.ports.services import Limits
from headrace.values import File
from tests.resources import only


class Scripted:
    """A sandbox whose every program returns `answer`, and that remembers what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.requests: list[tuple[str, str, Mapping[str, Any], float]] = []

    async def run(
        self, language: str, code: str, inputs: Mapping[str, Any], seconds: float, app: str = ""
    ) -> Mapping[str, Any]:
        assert app == "app"
        self.requests.append((language, code, inputs, seconds))
        if isinstance(self.answer, NodeError):
            raise self.answer
        return cast("Mapping[str, Any]", self.answer)

    async def render(self, template: str, inputs: Mapping[str, Any], seconds: float, app: str = "") -> str:
        raise AssertionError

    def missing(self, language: str, code: str) -> str | None:
        return f"no {code}" if language == "javascript" else None


def context(sandbox: Any, limits: Limits | None = None, **scopes: Mapping[str, Any]) -> Context:
    return Context(
        run="run",
        app="app",
        user="user",
        spec=NodeSpec("c", "code"),
        variables=Variables(scopes),
        inputs={},
        resources=only(sandbox=sandbox),
        limits=limits or Limits(),
        emit=lambda name, text: None,
        key="run/c/1",
        new_id=lambda: "id",
    )


async def returned(answer: Any, outputs: Mapping[str, Any], **limits: Any) -> Mapping[str, Any]:
    """What the node puts out if its program returns `answer`."""
    node = Code(CodeConfig.model_validate({"code": "", "outputs": outputs}))
    result = await node.run(context(Scripted(answer), Limits(**limits)))
    assert isinstance(result, Result)
    return result.outputs


async def refused(answer: Any, outputs: Mapping[str, Any], **limits: Any) -> tuple[str, str]:
    with pytest.raises(NodeError) as failed:
        await returned(answer, outputs, **limits)
    return str(failed.value), failed.value.kind


def typed(type: str, children: Any = None) -> dict[str, Any]:
    return {"n": {"type": type, "children": children}}


RANGE = ", it must be between -9223372036854775808 and 9223372036854775807."
CONFIG: dict[str, Any] = {
    "variables": [
        {"variable": "q", "value_selector": ["start", "query"], "value_type": "string"},
        {"variable": "deep", "value_selector": ["start", "o", "k"]},
        {"variable": "gone", "value_selector": ["start", "nothing"]},
        {"variable": "unset", "value_selector": []},
    ],
    "code_language": "python3",
    "code": "def main(q, deep, gone, unset):\n    return {'r': q.upper(), 'd': [deep, gone, unset]}\n",
    "outputs": {"r": {"type": "string", "children": None}, "d": {"type": "array[number]"}},
    "title": "c",
}


async def test_a_program_gets_its_variables_and_its_result_is_put_out() -> None:
    node = Code(CodeConfig.model_validate({**CONFIG, "outputs": {"r": {"type": "string"}, "d": {"type": "object"}}}))
    sandbox = Scripted({"r": "HI", "d": None})
    result = await node.run(context(sandbox, start={"query": "hi", "o": {"k": 5}}))
    inputs = {"q": "hi", "deep": 5, "gone": None, "unset": None}
    assert result == Result({"r": "HI", "d": None}, inputs)
    assert sandbox.requests == [("python3", CONFIG["code"], inputs, 60)]


async def test_files_reach_a_program_as_objects_and_no_files_as_none() -> None:
    file = File("image", "remote_url", "a.png", url="http://x/a.png")
    variables = [
        {"variable": "f", "value_selector": ["start", "f"]},
        {"variable": "fs", "value_selector": ["start", "fs"]},
        {"variable": "none", "value_selector": ["sys", "files"]},
    ]
    node = Code(CodeConfig.model_validate({"code": "", "variables": variables, "outputs": {}}))
    sandbox = Scripted({})
    await node.run(context(sandbox, start={"f": file, "fs": [file]}, sys={"files": []}))
    assert sandbox.requests[0][2] == {"f": file.wire(), "fs": [file.wire()], "none": None}


async def test_with_the_real_sandbox_in_both_languages() -> None:
    sandbox = LocalSandbox()
    try:
        code = {"code": "def main(q):\n    print('noise')\n    return {'r': q.upper()}\n", "code_language": "python3"}
        js = {"code": "function main({q}) { return {r: q.toUpperCase()} }", "code_language": "javascript"}
        for program in (code, js):
            config = {**program, "variables": [CONFIG["variables"][0]], "outputs": {"r": {"type": "string"}}}
            result = await Code(CodeConfig.model_validate(config)).run(context(sandbox, start={"query": "hi"}))
            assert result == Result({"r": "HI"}, {"q": "hi"})
        config["code"] = "function main({q}) { throw new Error('boom: ' + q) }"
        with pytest.raises(NodeError, match="boom: hi") as failed:
            await Code(CodeConfig.model_validate(config)).run(context(sandbox, start={"query": "hi"}))
        assert failed.value.kind == "CodeExecutionError"
        assert failed.value.inputs == {"q": "hi"}
    finally:
        await sandbox.aclose()


async def test_failures_show_the_inputs() -> None:
    node = Code(CodeConfig.model_validate({**CONFIG, "variables": CONFIG["variables"][:1]}))
    for answer, kind in (
        (NodeError("boom", "CodeExecutionError"), "CodeExecutionError"),
        ({}, "OutputValidationError"),
    ):
        with pytest.raises(NodeError) as failed:
            await node.run(context(Scripted(answer), start={"query": "hi"}))
        assert failed.value.kind == kind
        assert failed.value.inputs == {"q": "hi"}


@pytest.mark.parametrize(
    ("type", "value", "put_out"),
    [
        ("string", "text", "text"),
        ("string", "", ""),
        ("string", "a\0b\0", "ab"),
        ("string", None, None),
        ("string", "1e-5", "1e-5"),
        ("number", 5, 5),
        ("number", 2.5, 2.5),
        ("number", True, 1),
        ("number", None, None),
        ("number", "1.5e-05", 1.5e-05),
        ("number", -1, -1),
        ("boolean", False, False),
        ("boolean", None, None),
        ("boolean", "whatever", "whatever"),
        ("object", {"a": [1, None, 2], "b": None, "c": {"d": [[1], [2]]}, "e": ["x"]}, "same"),
        ("object", {}, {}),
        ("object", None, None),
        ("array[string]", ["a", None, "b\0"], ["a", None, "b"]),
        ("array[string]", [], []),
        ("array[string]", None, None),
        ("array[number]", [1, 2.5, True], [1, 2.5, 1]),
        ("array[number]", None, None),
        ("array[object]", [{"a": 1}, None], "same"),
        ("array[object]", None, None),
        ("array[boolean]", [True, None, False], "same"),
        ("array[boolean]", None, None),
    ],
)
async def test_values_of_the_promised_type_pass(type: str, value: Any, put_out: Any) -> None:
    (converted,) = (await returned({"n": value}, typed(type))).values()
    expected = value if isinstance(put_out, str) and put_out == "same" else put_out
    assert converted == expected
    assert converted.__class__ is expected.__class__


@pytest.mark.parametrize(
    ("type", "value", "message"),
    [
        ("string", 5, "Output n must be a string, got int instead."),
        ("string", ["a"], "Output n must be a string, got list instead."),
        ("number", "5", "Output n is not a number, got <class 'str'> instead."),
        ("number", "e5", "Output n is not a number, got <class 'str'> instead."),
        ("number", 2**63, "Output variable `n` is out of range" + RANGE),
        ("number", float("inf"), "Output variable `n` is out of range" + RANGE),
        ("number", 1e-30, "Output variable `n` has too high precision, it must be less than 20 digits."),
        ("object", [1], "Output n is not an object, got <class 'list'> instead."),
        ("object", "x", "Output n is not an object, got <class 'str'> instead."),
        ("object", {"a": [1, "b"]}, "Output n.a is not a valid array. make sure all elements are of the same type."),
        ("object", {"a": {"b": 2**70}}, "Output variable `n.a.b` is out of range" + RANGE),
        ("array[string]", "x", "Output n is not an array, got <class 'str'> instead."),
        ("array[string]", ["a", 1], "Output n[1] must be a string, got int instead."),
        ("array[string]", ["x"] * 31, "The length of output variable `n` must be less than 30 elements."),
        ("array[number]", {}, "Output n is not an array, got <class 'dict'> instead."),
        ("array[number]", [1, None], "The element at index 1 of output variable `n` must be a number."),
        ("array[number]", [0] * 1001, "The length of output variable `n` must be less than 1000 elements."),
        ("array[object]", [{}, 5], "Output n[1] is not an object, got <class 'int'> instead at index 1."),
        ("array[object]", [{}] * 31, "The length of output variable `n` must be less than 30 elements."),
        ("array[boolean]", [True, 1], "Output n[1] is not a boolean, got <class 'int'> instead."),
        ("array[boolean]", 1, "Output n is not an array, got <class 'int'> instead."),
    ],
)
async def test_values_of_another_type_are_refused_in_difys_words(type: str, value: Any, message: str) -> None:
    assert await refused({"n": value}, typed(type)) == (message, "OutputValidationError")


async def test_every_output_must_be_there_and_no_other() -> None:
    assert await refused({}, typed("number")) == ("Output n is missing.", "OutputValidationError")
    assert await refused({"n": 1, "m": 2}, typed("number")) == (
        "Not all output parameters are validated.",
        "CodeNodeError",
    )
    assert await returned({}, {}) == {}


async def test_children_are_checked_with_their_path() -> None:
    outputs = typed("object", {"a": {"type": "array[object]", "children": {"b": {"type": "string"}}}})
    assert await returned({"n": {"a": [{"b": "x\0"}, None]}}, outputs) == {"n": {"a": [{"b": "x"}, None]}}
    message = "Output n.a[1].b must be a string, got int instead."
    assert await refused({"n": {"a": [None, {"b": 1}]}}, outputs) == (message, "OutputValidationError")
    assert (await refused({"n": {}}, outputs))[0] == "Output n.a is missing."
    assert (await refused({"n": {"a": [{}]}}, outputs))[0] == "Output n.a[0].b is missing."


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else 1


async def test_depth_has_a_limit() -> None:
    assert await returned({"n": nested(4)}, typed("object")) == {"n": nested(4)}
    message = ("Depth limit 5 reached, object too deep.", "DepthLimitError")
    assert await refused({"n": nested(5)}, typed("object")) == message
    lists: Any = 1
    for _ in range(2000):
        lists = [lists]
    assert await refused({"n": {"a": lists}}, typed("object")) == message
    assert (await refused({"n": nested(2)}, typed("object"), code_max_depth=2))[1] == "DepthLimitError"


async def test_text_has_a_limit() -> None:
    message = "The length of output variable `n` must be less than 10 characters"
    assert await returned({"n": "x" * 10}, typed("string"), code_max_string=10) == {"n": "x" * 10}
    assert (await refused({"n": "x" * 11}, typed("string"), code_max_string=10))[0] == message
    message = "The length of output variable `n[0]` must be less than 10 characters"
    assert (await refused({"n": ["x" * 11]}, typed("array[string]"), code_max_string=10))[0] == message
    message = "The length of output variable `n.a[1]` must be less than 10 characters"
    assert (await refused({"n": {"a": ["", "x" * 11]}}, typed("object"), code_max_string=10))[0] == message


@pytest.mark.parametrize(
    "wrong",
    [
        {"outputs": {"n": {"type": "file"}}},
        {"outputs": {"n": {"type": "array[file]"}}},
        {"outputs": {"n": {}}},
        {"code_language": "ruby"},
        {"code": None},
        {"variables": [{"value_selector": ["a", "b"]}]},
    ],
)
def test_a_malformed_node_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CodeConfig.model_validate({"code": "", "outputs": {}, **wrong})


def test_what_the_sandbox_does_not_have_is_reported_before_a_run():
    def needs(language: str) -> list[str]:
        config = CodeConfig.model_validate({"code": "x", "code_language": language})
        return list(Code(config).missing_requirements(only(sandbox=Scripted({}))))

    assert (needs("javascript"), needs("python3")) == (["no x"], [])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
async def test_what_is_not_a_number_of_json_is_none_in_a_list_either(number: float) -> None:
    alone, kind = await refused({"n": number}, typed("number"))
    inside, also = await refused({"n": [1, number]}, typed("array[number]"))
    assert inside == alone.replace("`n`", "`n[1]`")
    assert kind == also == "OutputValidationError"
    deeper = {"n": {"type": "object", "children": {"a": {"type": "array[number]"}}}}
    assert (await refused({"n": {"a": [number]}}, deeper))[0] == alone.replace("`n`", "`n.a[0]`")
