"""Inputs and schemas made to do harm, or merely odd: a clear refusal, a failed node, and nothing else."""

from __future__ import annotations

import http.server
from collections.abc import Iterator, Mapping

import pytest

from headrace.errors import InvalidParam, NodeError
from headrace.kernel.conditions import Condition, decide, holds
from headrace.kernel.variables import Variables
from headrace.nodes.end import End
from headrace.nodes.if_else import IfElse
from headrace.nodes.start import Start, StartConfig
from headrace.values import File, Value
from tests.background import serving
from tests.nodes.plain import run


async def no_file(mapping: Mapping[str, Value]) -> File:
    raise AssertionError(f"no file was given: {mapping}")


async def accept(kind: str, value: Value) -> Value:
    start = Start(StartConfig.model_validate({"variables": [{"variable": "x", "type": kind}]}))
    return (await start.accept({"x": value}, no_file))["x"]


@pytest.fixture
def schemas() -> Iterator[tuple[str, list[str]]]:
    """A server of schemas, and the paths it was asked for."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "object"}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}", requests


def checked_by(schema: Value) -> dict[str, Value]:
    return {"variables": [{"variable": "obj", "type": "json_object", "json_schema": schema}]}


async def test_a_schema_fetches_nothing_from_the_network(schemas: tuple[str, list[str]]):
    url, requests = schemas
    with pytest.raises(NodeError, match=r"the schema refers to '.*/s\.json', which is not in it"):
        await run(Start, checked_by({"$ref": f"{url}/s.json"}), inputs={"obj": {"a": 1}})
    assert requests == []


async def test_a_schema_may_refer_to_its_own_parts():
    schema = {"definitions": {"n": {"type": "number"}}, "properties": {"a": {"$ref": "#/definitions/n"}}}
    assert (await run(Start, checked_by(schema), inputs={"obj": {"a": 1}})).outputs == {"obj": {"a": 1}}
    with pytest.raises(NodeError, match="'x' is not of type 'number'"):
        await run(Start, checked_by(schema), inputs={"obj": {"a": "x"}})


async def test_a_schema_that_refers_to_itself_without_end_fails_its_node():
    with pytest.raises(NodeError, match="refers to itself without end"):
        await run(Start, checked_by({"$ref": "#"}), inputs={"obj": {"a": 1}})


def test_a_schema_of_endless_depth_is_reported_when_the_file_is_loaded():
    with pytest.raises(ValueError, match="is not valid JSON"):
        StartConfig.model_validate(checked_by("[" * 100_000))


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("12345678901234567890123", 1.2345678901234568e22),  # as that JSON number is read
        (12345678901234567890123, 1.2345678901234568e22),
        ("-99999999999999999999", -1e20),
        ("\t１２ ", 12),
        ("-0.0", -0.0),
    ],
)
async def test_numbers_out_of_the_ordinary(value: Value, taken: Value):
    accepted = await accept("number", value)
    assert accepted == taken
    assert type(accepted) is type(taken)


@pytest.mark.parametrize("value", ["9" * 400, "9" * 5000, "1.0e999", float("inf"), float("nan"), "0x10", "1e5", "."])
async def test_what_is_no_number(value: Value):
    with pytest.raises(InvalidParam, match="x in input form must be a valid number"):
        await accept("number", value)


@pytest.mark.parametrize("kind", ["checkbox", "external_data_tool"])
@pytest.mark.parametrize("value", [{"a": 1}, [{"a": 1}]])
async def test_an_object_is_no_plain_value(kind: str, value: Value):
    with pytest.raises(InvalidParam, match=r"Invalid input type for \['x'\]"):
        await accept(kind, value)


async def test_a_selector_that_names_no_variable_finds_nothing():
    scopes: dict[str, dict[str, Value]] = {"s": {"x": 1}}
    outputs = [{"variable": name, "value_selector": selector} for name, selector in (("a", ["s"]), ("b", []))]
    assert (await run(End, {"outputs": outputs}, scopes)).outputs == {"a": None, "b": None}
    with pytest.raises(ValueError, match=r"Variable \['s'\] not found"):
        decide([Condition(("s",), "empty")], Variables(scopes), every=True)


async def test_a_boolean_compared_with_endless_depth_fails_its_node():
    condition = {"variable_selector": ["s", "flag"], "comparison_operator": "is", "value": "{{#s.text#}}"}
    cases = [{"case_id": "true", "logical_operator": "and", "conditions": [condition]}]
    with pytest.raises(NodeError, match="is not a boolean"):
        await run(IfElse, {"cases": cases}, {"s": {"flag": True, "text": "[" * 100_000}})


def test_text_has_none_of_what_is_no_text():
    assert holds("all of", "abc", ["a", "c"])
    assert not holds("all of", "abc", [True])
    assert not holds("all of", 5, ["a"])
