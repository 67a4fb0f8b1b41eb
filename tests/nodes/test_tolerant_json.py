"""JSON as people and templates write it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.nodes.tolerant_json import parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", ""),
        (" \n", ""),
        ("{'a': None, \"b\": True,}", {"a": None, "b": True}),
        ('{"q": "he said "no" and left"}', {"q": 'he said "no" and left'}),
        ('{"q": "he said "no", and left", "b": 1}', {"q": 'he said "no", and left', "b": 1}),
        ('["a", "b "c" d"]', ["a", 'b "c" d']),
        ('{"a": 1 /* one */, // two\n "b": 2}', {"a": 1, "b": 2}),
        ('{a: 1, "b": {"c": 2', {"a": 1, "b": {"c": 2}}),
        ("[1, .5, 2., +3, -4e2, 007,]", [1, 0.5, 2, 3, -400.0, 7]),
        (r"""{'a': "\u00e9\ud83d\ude00\n\"q\"", 'b': 'it\'s'}""", {"a": 'é😀\n"q"', "b": "it's"}),
        ('{"a": [{\'b\': "it\'s"}], "c": "two\nlines"}', {"a": [{"b": "it's"}], "c": "two\nlines"}),
        # what a template made of {"a": {{#llm.text#}}}
        ('{"a": Reply to: x, y\nand z., "b": 1}', {"a": "Reply to: x, y\nand z.", "b": 1}),
        ('{"a": 你好，世界, "u": https://x.com/?q=1}', {"a": "你好，世界", "u": "https://x.com/?q=1"}),
        ('{"a": , "b": [], "c":\n}', {"a": "", "b": [], "c": ""}),
        ('{"day": 2026-01-02, "px": 12px, "v": 1.5.2}', {"day": "2026-01-02", "px": "12px", "v": "1.5.2"}),
        ('{"a": truely, "b": nul, "c": null}', {"a": "truely", "b": "nul", "c": None}),
        ("{a: b, c: {d: e f}}", {"a": "b", "c": {"d": "e f"}}),
        ('[x, y z, "q", 1px]', ["x", "y z", "q", "1px"]),
        ('[{"a": x}, {"a": y}]', [{"a": "x"}, {"a": "y"}]),
        ('{"a": 1 "b": null "c": 2}', {"a": 1, "b": None, "c": 2}),
        ("[1 -2 .5]", [1, -2, 0.5]),
        ('{"a": x', {"a": "x"}),
    ],
)
def test_what_is_meant(text: str, meant: Any):
    assert parse(text) == meant


@pytest.mark.parametrize("text", ["hello", "{hello}", "{1: 2}", '{"a": "b', "[1] [2]", "{,,:}", '{"a": x} y'])
def test_what_means_nothing(text: str):
    with pytest.raises(ValueError, match=r"\S"):
        parse(text)


@given(JSON)
def test_proper_json_is_read_as_it_is(value: Any):
    assert parse(json.dumps(value)) == value


@given(
    st.lists(st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\\")), st.booleans() | st.none()))
)
def test_what_python_prints_of_plain_values_is_read(value: list[dict[str, bool | None]]):
    """Lists of objects come into a body in Python's spelling; without escapes it has the same values."""
    if "\\" not in (printed := str(value)):
        assert parse(printed) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "' + '"x, ' * 50_000 + '"}',
        '{"a": "' + '"' * 200_000,
        "{'a': '" + "\\" * 200_000,
        '{"a": ' + "x, " * 50_000,
        '{"a": ' + "x, '" * 50_000,
        '{"a": ' + "x," + "y" * 200_000,
        '{"a": ' + "1" * 4_000 + "x" * 100_000,
        "[" + "x " * 100_000,
        "[" + " " * 100_000 + "x " * 50_000,
        '{"a": x, ' * 30_000,
        '{"a" ' * 50_000,
        "[" + "/*," * 50_000,
        '{"a": 1, ' + "/*," * 50_000,
    ],
)
def test_hostile_texts_take_no_long_time(text: str):
    began = time.thread_time()
    with suppress(ValueError):
        parse(text)
    assert time.thread_time() - began < 2  # linear: some 50 ms; quadratic: minutes


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 5_000 + "]" * 5_000, '{"a":' * 5_000 + "1" + "}" * 5_000, "{'a':" * 5_000]
)
def test_endless_depth_means_nothing(text: str):
    with pytest.raises(ValueError, match=r"\S"):
        parse(text)
