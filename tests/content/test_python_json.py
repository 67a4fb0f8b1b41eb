"""JSON from outside, and the halves of characters that its escapes can hold."""

from __future__ import annotations

import json
import math
from json import JSONDecodeError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.content.lenient_json import object_in
from headrace.content.python_json import load_json
from headrace.content.surrogates import Mending, mend, mend_text

PARTY = "\U0001f389"
FIRST, SECOND = "\ud83c", "\udf89"


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("", ""),
        ("plain", "plain"),
        ("é 中 " + PARTY, "é 中 " + PARTY),
        (FIRST, "\ufffd"),
        (SECOND, "\ufffd"),
        (f"a{FIRST}b{SECOND}", "a\ufffdb\ufffd"),
        (FIRST + SECOND, PARTY),
        (SECOND + FIRST, "\ufffd\ufffd"),
        (FIRST + FIRST + SECOND, "\ufffd" + PARTY),
        (f"中{FIRST}\0{PARTY}{FIRST}", f"中\ufffd\0{PARTY}\ufffd"),
    ],
)
def test_halves_are_joined_or_replaced(text: str, mended: str) -> None:
    assert mend_text(text) == mended
    assert mend({text: [text, 1, None, {"a": text}]}) == {mended: [mended, 1, None, {"a": mended}]}
    assert load_json(json.dumps({"t": text})) == load_json(json.dumps({"t": text}).encode()) == {"t": mended}


@given(st.text(st.sampled_from(["a", "中", PARTY, FIRST, SECOND])), st.lists(st.integers(0, 20)))
def test_pieces_are_mended_as_the_whole_is(text: str, cuts: list[int]) -> None:
    mending = Mending()
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [mending.feed(text[start:end]) for start, end in zip(places, [*places[1:], len(text)], strict=True)]
    assert "".join(pieces) + mending.end() == mend_text(text)
    assert mending.end() == ""


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_every_encoding_that_python_finds_out(encoding: str) -> None:
    value = {"q": "é 中 " + PARTY, "n": 1}
    assert load_json(json.dumps(value, ensure_ascii=False).encode(encoding)) == value


def test_numbers_that_json_does_not_have_and_such_as_are_long() -> None:
    value: Any = load_json(b'{"a": NaN, "b": -Infinity, "c": 18446744073709551616, "d": 0.12345678901234567890}')
    assert math.isnan(value["a"])
    assert (value["b"], value["c"], value["d"]) == (-math.inf, 2**64, 0.12345678901234568)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b'"\xff"', b"\xef\xbb\xbf", b"nan", b"[" * 100_000, b"9" * 5000, b"{'a': 1}"]
)
def test_what_is_not_json(text: bytes) -> None:
    with pytest.raises(JSONDecodeError):
        load_json(text)


@pytest.mark.parametrize("text", ['{"a": "x \\ud83d"}', '{"a": "x \\ud83d"', "Here: {'a': 'x \\ud83d',}"])
async def test_what_a_model_writes_has_no_halves_either(text: str) -> None:
    assert await object_in(text) == {"a": "x \ufffd"}
