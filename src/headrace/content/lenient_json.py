"""JSON as people, templates and models write it: in a code block, with words around it, or invalid.

Invalid JSON is repaired by json-repair, the library that Dify uses. That can take quadratic time, so it runs in a
thread, with a limit. Everything that runs on the event loop reads a text a few times at most.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, SupportsIndex, cast

from headrace.content.surrogates import may_hold, mend

_MOST_SECONDS = 1.0  # of CPU time that one repair may take; 100 KB of text take some 0.4 s
_DEEPEST = 200  # brackets; text that opens this many in a row is nested too deeply to be parsed
_OPENING = re.compile(r"[\[{(][\[{(\s]*+")  # brackets that open one after another
_SPACE = re.compile(r"\s+")
_FENCE = re.compile(r"```(?:json[a-z0-9]*)?[ \t]*\r?\n(.*?)```", re.IGNORECASE | re.DOTALL)
_OBJECT = re.compile(r"\{\s*(?:[\"'“}]|\w+\s*:)")  # where an object begins, and not a word in braces
_CONTAINER = re.compile(r"[{\[]\s*[{\"'\]}]")  # where an object or a list of them begins
_LIST = re.compile(r"\[\s*[\[{\"'“\]\d-]")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|[{}\[\]]', re.DOTALL)
_ATTEMPTS = 50  # places where JSON may begin, or code blocks that may contain it
_MOST_READ = 1_000_000  # characters read in failed attempts, which may overlap


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class _Decoder(json.JSONDecoder):
    """Python's, without lone surrogates in the result."""

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        value, end = super().raw_decode(s, idx)
        return (mend(value) if may_hold(s[idx:end]) else value), end


# Raw newlines inside strings are accepted; NaN and Infinity, which Python would accept, are not.
_DECODER = _Decoder(strict=False, parse_constant=_no_constant)


def read_strictly(text: str) -> Any:
    """Parses JSON; control characters in strings are accepted. ValueError if it is invalid."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


async def read(text: str) -> Any:
    """Parses JSON, repaired as Dify does it if it is invalid. ValueError if it cannot be repaired."""
    try:
        return read_strictly(text)
    except ValueError:
        return await repaired(text)


async def repaired(text: str) -> Any:
    """Parses invalid JSON. ValueError if it cannot be repaired, or not in time."""
    return await asyncio.to_thread(_repaired, text)


async def object_in(text: str) -> dict[str, Any] | None:
    """The first JSON object in a model's answer; in a list, its first object. None if there is none. ValueError if
    repairing takes too long."""
    fences = _fences(text, _ATTEMPTS)
    for whole in (text, *fences):
        with suppress(ValueError):
            if (value := _object_of(read_strictly(whole))) is not None:
                return value
    fragment = next((fence for fence in fences if _OBJECT.search(fence)), text)
    empty: dict[str, Any] | None = None
    for start in islice(_OBJECT.finditer(text), _ATTEMPTS):
        result = _decoded_at(text, start.start())
        if result is None:  # an object inside an invalid one is not the answer
            fragment = fragment if fragment is not text else text[start.start() :]
            break
        if result:
            return cast("dict[str, Any]", result)
        empty = cast("dict[str, Any]", result)
    else:
        if empty is not None:
            return empty
    with suppress(NothingFound):
        return _object_of(await repaired(fragment))
    return None


async def value_in(text: str) -> Any:
    """The JSON value that a text consists of, or contains as its only one: in a code block, between words, or invalid.
    ValueError if the text is just text."""
    with suppress(ValueError):
        return read_strictly(text)
    text = text.strip()
    fences = _fences(text, 2)
    if len(fences) == 1:
        with suppress(ValueError):
            return read_strictly(fences[0])
    whole = fences[0] if len(fences) == 1 else text
    if (_OBJECT.match(whole) or _LIST.match(whole)) and await asyncio.to_thread(_is_one, whole):
        return await repaired(whole)
    containers = list(_containers(text))
    if len(containers) == 1:
        return containers[0]
    raise NothingFound


class NothingFound(ValueError):
    """There is no JSON in a text."""

    def __init__(self) -> None:
        super().__init__("there is no JSON in it")


class _TooSlow(Exception):
    pass


class _Watched(str):
    """A string that raises _TooSlow when it is read, character by character, for too long. Its prefixes do so too,
    because the library inserts brackets into the text that it parses."""

    _reads = 0
    _until = float("inf")

    @classmethod
    def until(cls, text: str, end: float) -> _Watched:
        """`end`: seconds of this thread's CPU time."""
        text_with_limit = cls(text)
        text_with_limit._until = end
        return text_with_limit

    def __getitem__(self, key: SupportsIndex | slice, /) -> str:
        self._reads += 1
        if not self._reads % 64 and time.thread_time() > self._until:
            raise _TooSlow
        part = str.__getitem__(self, key)
        beginning = isinstance(key, slice) and key.start is None
        return _Watched.until(part, self._until) if beginning else part

    def __add__(self, other: str, /) -> _Watched:
        return _Watched.until(str.__add__(self, other), self._until)


def _repaired(text: str) -> Any:
    from json_repair import repair_json  # takes a twentieth of the start of a service, and few runs need it

    if any(len(_SPACE.sub("", run[0])) >= _DEEPEST for run in _OPENING.finditer(text)):
        raise ValueError("it nests too deeply")
    text_with_limit = _Watched.until(text, time.thread_time() + _MOST_SECONDS)
    try:
        value: Any = mend(repair_json(text_with_limit, return_objects=True, skip_json_loads=True))
    except _TooSlow:
        raise ValueError("it takes too long to make sense of it") from None
    except (RecursionError, ValueError) as error:  # the library wraps a RecursionError in a ValueError
        raise ValueError("it nests too deeply") from error
    if value == "" and '""' not in text:
        raise NothingFound
    return value


def _fences(text: str, most: int) -> list[str]:
    """The contents of the first code blocks."""
    return [match[1].strip() for match in islice(_FENCE.finditer(text), most)]


def _object_of(value: Any) -> dict[str, Any] | None:
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    return next((cast("dict[str, Any]", item) for item in items if isinstance(item, dict)), None)


def _decoded_at(text: str, at: int) -> Any:
    """The object or list that begins there; None if there is no valid one."""
    with suppress(ValueError, RecursionError):
        return _DECODER.raw_decode(text, at)[0]
    return None


def _is_one(text: str) -> bool:
    """Whether the first bracket is closed at the end of the text, and not before."""
    depth = 0
    for match in _BRACKET.finditer(text):
        if match[0] in "{[":
            depth += 1
        elif match[0] in "}]":
            depth -= 1
            if depth == 0:
                return match.end() == len(text)
    return False


def _containers(text: str) -> Iterator[Any]:
    """The objects, and lists of objects or strings, in a text."""
    at = read = 0
    for _ in range(_ATTEMPTS):
        match = _CONTAINER.search(text, at)
        if match is None or read > _MOST_READ:
            return
        start = match.start()
        try:
            value, at = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            at = start + 1
            read += _place_of(error, text) - start
            continue
        if value:
            yield value


def _place_of(error: Exception, text: str) -> int:
    """How far a text was read before the error. An unterminated string was read to the end, though its error gives its
    beginning."""
    if isinstance(error, json.JSONDecodeError) and not error.msg.startswith("Unterminated string"):
        return error.pos
    return len(text)
