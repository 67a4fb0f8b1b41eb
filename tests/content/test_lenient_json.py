"""JSON as people, templates and models write it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.content import lenient_json
from headrace.content.lenient_json import object_in, read, value_in

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        # as Dify reads them (json-repair)
        ('{"a": "b"\n"c": "d"}', {"a": "b", "c": "d"}),
        ('{"a": "b" "c": "d"}', {"a": "b", "c": "d"}),
        ('{"a": 1; "b": 2}', {"a": 1, "b": 2}),
        ('["a" "b"]', ["a", "b"]),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('Here is the JSON: {"a": 1}', {"a": 1}),
        ('{"a": 1}\nThat is all.', {"a": 1}),
        ('{"a": "b"}}', {"a": "b"}),
        ('[{"a":1}{"a":2}]', [{"a": 1}, {"a": 2}]),
        ('\ufeff{"a": 1}', {"a": 1}),
        ("{“a”: 1}", {"a": 1}),
        ('{"a": TRUE}', {"a": True}),
        ('{"a": “x”}', {"a": "x"}),
        ("{'a': None, \"b\": True,}", {"a": None, "b": True}),
        ('{"q": "he said "no" and left"}', {"q": 'he said "no" and left'}),
        ('{"a": 1 /* one */, // two\n "b": 2}', {"a": 1, "b": 2}),
        ('{a: 1, "b": {"c": 2', {"a": 1, "b": {"c": 2}}),
        ('{"a": , "b": [], "c":\n}', {"a": "", "b": [], "c": ""}),
        ('{"day": 2026-01-02, "u": https://x.com/?q=1}', {"day": "2026-01-02", "u": "https://x.com/?q=1"}),
        ("[]", []),
        ("null", None),
        ('""', ""),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
    ],
)
async def test_what_is_meant(text: str, meant: Any) -> None:
    assert await read(text) == meant


@pytest.mark.parametrize("text", ["", " \n", "hello", "[" * 100_000, "[" * 5_000 + "]" * 5_000, '{"a":' * 5_000])
async def test_what_means_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON|too deeply|too long|nesting"):
        await read(text)


@given(JSON)
async def test_proper_json_is_read_as_it_is(value: Any) -> None:
    assert await read(json.dumps(value)) == await value_in(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('```json\n{"x": 1}\n```', {"x": 1}),
        ("```\n[1, 2]\n```", [1, 2]),
        ('Sure!\n```JSON\r\n{"x": 1,}\r\n```\nAnything else?', {"x": 1}),
        ('Here is the JSON: {"a": 1}', {"a": 1}),
        ('{"a": 1}\nThat is all.', {"a": 1}),
        ('The list: [{"a": 1}, {"a": 2}]. See [1].', [{"a": 1}, {"a": 2}]),
        ("{'a': None}", {"a": None}),
        ("['a', 'b']", ["a", "b"]),
        ('{"a": "x" "b": 2}', {"a": "x", "b": 2}),
        ("[1, 2,]", [1, 2]),
        ("5", 5),
        ('"s"', "s"),
        ("null", None),
    ],
)
async def test_a_value_in_a_text(text: str, meant: Any) -> None:
    assert await value_in(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes, it is:\nso.",
        "See [1] and [2].",
        "[Note] see [1]",
        "[Note]",
        "[x](http://y) {z}",
        "a[0] = {b}",
        "use {name} here",
        "1 2",
        "2026-01-02",
        "NaN",
        'He said "x"',
        'One {"a": 1}, two {"b": 2}',
        '```json\n{"a": 1}\n```\nor\n```json\n{"b": 2}\n```',
        r"\frac{a}{b}",
    ],
)
async def test_what_is_just_a_text(text: str) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        await value_in(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('{"a": 1}', {"a": 1}),
        ('[3, {"a": 1}, {"a": 2}]', {"a": 1}),
        ('```json\n{"a": 1}\n```\nor\n```json\n{"b": 2}\n```', {"a": 1}),
        ('Using {name} and {}: {"a": {"b": 1}}.', {"a": {"b": 1}}),
        ('{"a": "b"\n"c": "d"}', {"a": "b", "c": "d"}),
        ('{"a": "b" "c": {"d": 1}}', {"a": "b", "c": {"d": 1}}),  # not the object inside
        ('Here:\n```json\n{"a": "b"\n"c": {"d": 1}}\n```\nDone.', {"a": "b", "c": {"d": 1}}),
        ('{"a": 1, "b": [1, 2', {"a": 1, "b": [1, 2]}),
        ("{'a': 'it is'}", {"a": "it is"}),
        ("{a: 1}", {"a": 1}),
        ("{}", {}),
        ("no object", None),
        ("[1, 2]", None),
        ('"text"', None),
        ("", None),
    ],
)
async def test_an_object_in_a_models_answer(text: str, meant: Any) -> None:
    assert await object_in(text) == meant


@settings(max_examples=50)
@given(st.text(st.sampled_from('{}[]":,\\ab1 \n`/*#“(')))
async def test_any_text_is_a_value_or_none(text: str) -> None:
    for reader in (read, value_in, object_in):
        with suppress(ValueError):
            await reader(text)


# Each takes the library, which is written in Python, seconds or hours.
HOSTILE = [
    "{" * 1_000_000,
    '{"a": "' + '"' * 1_000_000,
    '{"a": "' + '"x, ' * 250_000 + '"}',
    '{"a": ' + "x, " * 330_000,
    '{"a": ' + "x: " * 330_000,
    '{"a": 1, ' + "/*," * 330_000,
    "[" + "# " * 500_000,
    '{"' * 500_000,
    '["' * 500_000,
    '{"a" ' * 200_000,
    "(" * 1_000_000,
    '{"a": ' + "1." * 500_000,
    '{"a": "\\"' * 100_000,
    "{“a”: “" + "“”" * 300_000,
    '\\"' * 500_000,
    "```json\n" * 120_000,
    "```json " * 120_000,
    "{ " * 500_000,
    '{"' + "a" * 1_000_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
@pytest.mark.parametrize("reader", [read, value_in, object_in], ids=lambda reader: reader.__name__)
async def test_hostile_texts_hold_nobody_up(monkeypatch: pytest.MonkeyPatch, reader: Any, text: str) -> None:
    monkeypatch.setattr(lenient_json, "_MOST_SECONDS", 0.01)
    began = time.thread_time()
    task = asyncio.create_task(reader(text))
    await asyncio.wait({task})
    seconds = time.thread_time() - began  # by this thread, the loop's
    if task.exception() is not None:
        assert isinstance(task.exception(), ValueError)
    assert seconds < 1  # some 10 ms


class Counted(lenient_json._Decoder):  # pyright: ignore[reportPrivateUsage]
    """Counts the characters that it reads: of an attempt that fails, all that it may have read."""

    read = 0

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        end = len(s)
        try:
            value, end = super().raw_decode(s, idx)
            return value, end
        finally:
            self.read += end - idx


OFTEN_BEGUN = {
    "lists that do not end": '["",' * 50 + "1," * 100_000,
    "a string that does not end": '["",' * 50 + '"' + r"\n" * 100_000,
    "lists that nest too deeply": '["",' * 50 + "1," * 100_000 + "[" * 3_000,
    "objects": '{"a": 1} ' * 20_000,
    "empty objects": "{} " * 60_000,
    "code blocks": "```\n```" * 30_000,
    "code blocks of text": "```\n[1, x]\n```\n" * 15_000,
    "brackets in pairs": '[[""' + "[]" * 100_000,
}


@pytest.mark.parametrize("text", OFTEN_BEGUN.values(), ids=OFTEN_BEGUN)
@pytest.mark.parametrize("reader", [value_in, object_in], ids=lambda reader: reader.__name__)
async def test_a_long_text_is_read_a_few_times_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, reader: Any, text: str
) -> None:
    decoder = Counted(strict=False)
    searched: list[int] = []
    in_threads: list[bool] = []

    def may_hold(part: str) -> bool:
        searched.append(len(part))
        return False

    def elsewhere(_: str) -> bool:
        in_threads.append(threading.current_thread() is not threading.main_thread())
        return False

    monkeypatch.setattr(lenient_json, "_DECODER", decoder)
    monkeypatch.setattr(lenient_json, "_MOST_READ", 100_000)
    monkeypatch.setattr(lenient_json, "may_hold", may_hold)
    monkeypatch.setattr(lenient_json, "_is_one", elsewhere)
    monkeypatch.setattr(lenient_json, "_repaired", elsewhere)
    with suppress(ValueError):
        await reader(text)
    assert decoder.read <= 3 * len(text)
    assert sum(searched) <= len(text)
    assert all(in_threads)


@pytest.mark.parametrize("text", ['{"a" ', '[{"a": \'b'])  # of the second, the library puts the text together anew
async def test_what_takes_too_long_says_so(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(lenient_json, "_MOST_SECONDS", 0.05)
    with pytest.raises(ValueError, match="it takes too long to make sense of it"):
        await read(text * 20_000)


async def test_values_are_plain_texts() -> None:
    values = list[Any]([await read("[{\"a\": 'some text'" * 3)])
    for value in values:  # grows
        assert type(value) in (list, dict, str)
        if not isinstance(value, str):
            values += [*value, *value.values()] if isinstance(value, dict) else value
    assert "some text" in json.dumps(values[0])


async def test_many_brackets_at_once_are_seen_in_linear_time() -> None:
    began = time.thread_time()
    with pytest.raises(ValueError, match="it nests too deeply"):
        lenient_json._repaired(("[" * 199 + "x") * 2_000 + "[ " * 200)  # pyright: ignore[reportPrivateUsage]
    assert time.thread_time() - began < 1  # some 10 ms; 200 times the text's length took a second
