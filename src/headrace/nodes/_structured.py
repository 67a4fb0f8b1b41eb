"""JSON objects out of what a model wrote: bare, fenced, or with words around them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, cast

from headrace.errors import NodeError
from headrace.nodes import tolerant_json
from headrace.nodes._thinking import without_thinking
from headrace.values import Value, nests_deeper

_FENCE = re.compile(r"```(?:json)?[ \t]*\r?\n(.*?)```", re.IGNORECASE | re.DOTALL)
_START = re.compile(r"\{")
_SHOWN = 500
_ATTEMPTS = 50  # places in a text at which an object may begin
_TOLERATED = 100_000  # characters of a text that is read generously
_DEEPEST = 100  # levels; what is nested deeper is no answer, and more than stores take


def object_in(text: str) -> dict[str, Value]:
    """The first JSON object in a model's answer; of a list, its first object. NodeError with kind LLMNodeError where
    there is none, worded as Dify's."""
    clean = without_thinking(text) if "<" in text else text
    for found in _candidates(clean.strip()):
        if isinstance(found, list):
            found = next(filter(_is_object, cast("list[Any]", found)), None)
        if isinstance(found, dict):
            if nests_deeper(found, _DEEPEST):
                break
            return cast("dict[str, Value]", found)
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    raise NodeError(f"Failed to parse structured output: {shown}", "LLMNodeError")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _candidates(text: str) -> Iterator[Any]:
    """What may be meant, the plainest reading first; each is parsed only once the ones before it gave no object."""
    fenced = [match.strip() for match in _FENCE.findall(text)]
    starts = list(islice((match.start() for match in _START.finditer(text)), _ATTEMPTS))
    for whole in (text, *fenced, *(text[at:] for at in starts)):
        yield from _strict(whole)
    if len(text) <= _TOLERATED:
        for meant in (*fenced, *(text[at : text.rfind("}") + 1] or text[at:] for at in starts[:1]), text):
            yield from _tolerant(meant)


def _strict(text: str) -> Iterator[Any]:
    """The JSON value that the text begins with."""
    with suppress(ValueError, RecursionError):
        yield _DECODER.raw_decode(text)[0]


def _tolerant(text: str) -> Iterator[Any]:
    """What the text means: models like commas too many, comments and single quotes."""
    with suppress(ValueError):
        yield tolerant_json.parse(text)


_DECODER = json.JSONDecoder(strict=False)  # raw newlines inside strings are forgiven
