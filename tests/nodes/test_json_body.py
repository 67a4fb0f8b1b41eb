"""The JSON of a request's body: what its author wrote, with values in it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.kernel.variables import Variables
from headrace.nodes import _json_body
from headrace.nodes._json_body import json_of
from headrace.values import File
from tests.content.test_lenient_json import HOSTILE, JSON

V = "{{#s.v#}}"


async def meant(template: str, value: Any = None, **others: Any) -> Any:
    return await json_of(template, Variables({"s": {"v": value, **others}}))


@given(st.text())
async def test_a_value_between_quotes_arrives_whatever_is_in_it(value: str) -> None:
    assert await meant(f'{{"a": "{V}", "b": 1}}', value) == {"a": value, "b": 1}
    assert await meant(f'{{"a": "<{V}>"\n"b": 1}}', value) == {"a": f"<{value}>", "b": 1}  # a comma is missing
    assert await meant(f'{{"{V}": "{V}"}}', value) == {value: value}


@given(JSON)
async def test_a_value_that_stands_alone_arrives_as_it_is(value: Any) -> None:
    if not isinstance(value, str):
        assert await meant(f'{{"a": {V}}}', value) == {"a": value}
        assert await meant(f"[1, {V}]", value) == [1, value]
        assert await meant(f"{{'a': {V},}}", value) == {"a": value}
        assert await meant(V, value) == value


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ('["a", "b, c", "d"]', '["a", "b, c", "d"]'),
        ('# Title\n\n```json\n{"a": 1, "b": "x"}\n```\n', '# Title\n\n```json\n{"a": 1, "b": "x"}\n```\n'),
        (r"C:\new\table \frac{1}{2}", r"C:\new\table \frac{1}{2}"),
        ('", "admin": true, "x": "', '", "admin": true, "x": "'),
        (["a", "b"], '["a", "b"]'),
        ({"k": "v"}, '{"k": "v"}'),
        (5, "5"),
        (None, ""),
        (HOSTILE[0], HOSTILE[0]),
    ],
)
async def test_values_between_quotes_are_texts(value: Any, sent: str) -> None:
    assert await meant(f'{{"a": "{V}"}}', value) == {"a": sent}
    assert await meant(f"{{'a': '{V}'}}", value) == {"a": sent}


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("5", 5),
        ("true", True),
        ("null", None),
        ('{"x": 1}', {"x": 1}),
        ('```json\n{"x": 1}\n```', {"x": 1}),
        ('Here it is: {"x": 1}', {"x": 1}),
        ('<think>{"no": 1}</think>{"x": 1}', {"x": 1}),
        ("['x', None]", ["x", None]),
        ("Yes, it is:\nso.", "Yes, it is:\nso."),
        ('He said "no", [1] {x}', 'He said "no", [1] {x}'),
        ("2026-01-02", "2026-01-02"),
        ("NaN", "NaN"),
        ("", ""),
        ([], []),
        ({}, {}),
        (None, None),
        (False, False),
        ([{"b": "it's", "c": None}], [{"b": "it's", "c": None}]),
        (File("document", "tool_file", "a.txt"), ""),
        ([File("document", "tool_file", "a.txt")], ""),
        (HOSTILE[2][:10_000], HOSTILE[2][:10_000]),
    ],
)
async def test_values_that_stand_alone(value: Any, sent: Any) -> None:
    for template in (f'{{"a": {V}}}', f'{{"b": 1, "a": {V}, }}', f'{{"a": {V} // what it said\n}}'):
        assert (await meant(template, value))["a"] == sent


@pytest.mark.parametrize(
    ("template", "value", "sent"),
    [
        # what is no value of its own goes in as it is, as in Dify
        (f"[{V}]", "1, 2", [1, 2]),
        (f'{{"a": 1, {V}}}', '"b": 2', {"a": 1, "b": 2}),
        ("{" + V + "}", '"b": 2', {"b": 2}),
        (f'{{"a": {V}.50}}', 5, {"a": 5.5}),
        (f'{{"a": {V}{V}}}', "1", {"a": 11}),
        # keys, and texts without quotes
        (f"{{ {V}: 1 }}", "key", {"key": 1}),
        (f'{{"a": Hello {V}!}}', 'wo "r" ld', {"a": 'Hello wo "r" ld!'}),
        (f'{{"a": “{V}”}}', "x, y", {"a": "x, y"}),
        # what authors forget
        (f'{{\n"prompt":"{V}"\n"n":"",\n"width":1536\n}}', 'a "cat"', {"prompt": 'a "cat"', "n": "", "width": 1536}),
        (f'{{"a": "{V}" "b": {V}}}', '{"z": 1}', {"a": '{"z": 1}', "b": {"z": 1}}),
        (f'{{"a": {V}', "x", {"a": "x"}),
        (f"{{'a': {V}, 'b': None}}", ["x", None], {"a": ["x", None], "b": None}),
        (f'{{"a": value0z, "b": {V}}}', 'x "', {"a": "value0z", "b": 'x "'}),
        # JSON that is a text of the JSON, and a text with quotes that is not
        ('{"content": "{\\"text\\": \\"' + V + '\\"}"}', 'q"\nz', {"content": '{"text": "q\\"\\nz"}'}),
        ('{"content": "say \\"' + V + '\\""}', 'q"\nz', {"content": 'say "q"\nz"'}),
        # variables that there are not stand for their names
        ('{"a": "{{#no.such#}}", "b": {{#no.such#}}}', None, {"a": "no.such", "b": "no.such"}),
        ("", None, ""),
        ("[]", None, []),
        ("null", None, None),
    ],
)
async def test_templates(template: str, value: Any, sent: Any) -> None:
    assert await meant(template, value) == sent


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('{"a": "b"}}', {"a": "b"}),
        ('{"a": 1, "b"}', {"a": 1}),
        ('[{"a":1}{"a":2}]', [{"a": 1}, {"a": 2}]),
        ("{“a”: TRUE}", {"a": True}),
        ("[]", []),
        ([], []),
        (None, None),
        ("", ""),
    ],
)
async def test_a_body_that_is_one_value(value: Any, sent: Any) -> None:
    assert await meant(V, value) == await meant(f" {V}\n", value) == sent


@pytest.mark.parametrize("template", ["hello", V, "[" * 100_000])
async def test_what_is_no_json(template: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON|deep"):
        await meant(template, "just text")


@pytest.mark.parametrize(
    ("template", "sent"),
    [
        (f'{{"a": -{V},}}', {"a": -5}),
        (f'{{"a": {V}.50,}}', {"a": 5.5}),
        (f'{{"a": {V}{V},}}', {"a": 55}),
        (f"{{'a': '-{V}',}}", {"a": "-5"}),
        (f'{{"a": {V}\n"b": {V}}}', {"a": 5, "b": 5}),
        (f'{{"a": {V}px}}', {"a": "5px"}),
    ],
)
async def test_pieces_of_numbers_stay_numbers_in_a_broken_template(template: str, sent: Any) -> None:
    assert await meant(template, 5) == sent
    assert await meant(template, "5") == sent


@pytest.mark.parametrize(
    ("value", "sent"), [(True, True), (None, None), ("007", "007"), ([], []), ('say "no"', 'say "no"')]
)
async def test_a_value_before_a_missing_comma_is_the_value(value: Any, sent: Any) -> None:
    assert await meant(f'{{"a": {V}\n"b": 1}}', value) == {"a": sent, "b": 1}


@pytest.mark.parametrize("other", [[1], {"q": '"'}, 5, True])
async def test_inner_json_holds_texts_and_values(other: Any) -> None:
    sent = await meant('{"c": "{\\"t\\": \\"{{#s.v#}}\\", \\"u\\": {{#s.w#}}}"}', 'a"b\\c\nd', w=other)
    read = json.loads(sent["c"].replace("True", "true"))
    assert read["t"] == 'a"b\\c\nd'


@pytest.mark.parametrize("around", ["", "\n", " \t"])
async def test_spaces_around_the_one_value_change_nothing(around: str) -> None:
    assert await meant(f"{around}{V}{around}", 'Sure: {"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="no JSON"):
        await meant(f"{around}{V}{around}", "hello")


@pytest.mark.parametrize("piece", [f"{V} ", f'", "{V}', "\\\\" * 10 + V])
async def test_templates_are_taken_apart_in_linear_time(piece: str) -> None:
    template = f'{{"a": ["{piece * 8_000}"]}}'
    began = time.thread_time()
    _json_body._parts.__wrapped__(template)  # pyright: ignore[reportPrivateUsage]
    assert time.thread_time() - began < 1  # some 50 ms
