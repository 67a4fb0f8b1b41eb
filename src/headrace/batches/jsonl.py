"""The lines of an incoming batch: JSON Lines, one `{"inputs": {...}}` each, for apps that answer messages also with
`query` and `conversation_id`."""

from __future__ import annotations

import asyncio
import io
import itertools
import pickle
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from json import JSONDecodeError
from typing import IO, Any, NamedTuple, cast, overload

from headrace.content.python_json import load_json
from headrace.errors import RequestError
from headrace.ports import BatchLine
from headrace.values import DEEPEST_INPUT, Value, nests_deeper


class Line(NamedTuple):
    """The checked fields of a line: a run's inputs, and the message that it answers."""

    inputs: Mapping[str, Value]
    query: str | None = None
    conversation: str | None = None


Accept = Callable[[Mapping[str, Value]], Awaitable[Line]]
"""Checks the fields of a line; raises RequestError if they are not valid."""

_FIELDS = ("inputs", "query", "conversation_id")
_CONCURRENT = 50  # lines checked at once: checking a file's URL takes a request
_BOM = b"\xef\xbb\xbf"


async def read_lines(raw: Iterable[bytes], accept: Accept) -> AsyncGenerator[BatchLine]:
    """The lines, numbered from 0 without blank ones. An invalid line has its error."""

    async def line(index: int, text: bytes) -> BatchLine:
        try:
            acceptance = await accept(_fields(text))
            return BatchLine(index, acceptance.inputs, None, acceptance.query, acceptance.conversation)
        except (RequestError, _InvalidLine) as error:
            return BatchLine(index, {}, str(error))

    lines = (text.strip() for text in _without_bom(raw))
    numbered_lines = enumerate(text for text in lines if text)
    while some := list(itertools.islice(numbered_lines, _CONCURRENT)):
        for batch_line in await asyncio.gather(*(line(index, text) for index, text in some)):
            yield batch_line


class _InvalidLine(Exception):
    """A line does not have the form of a line."""


def _without_bom(raw: Iterable[bytes]) -> Iterable[bytes]:
    """Without the byte order mark with which some editors begin a UTF-8 file."""
    for index, line in enumerate(raw):
        yield line if index else line.removeprefix(_BOM)


def _fields(text: bytes) -> dict[str, Value]:
    try:
        fields: Any = load_json(text)
    except JSONDecodeError as error:
        raise _InvalidLine(f"The line is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise _InvalidLine('The line must be a JSON object: {"inputs": {...}}')
    line = cast("dict[str, Value]", fields)
    if unknown := [name for name in line if name not in _FIELDS]:
        raise _InvalidLine(f"{unknown[0]:.50}: unknown field; a line has {', '.join(_FIELDS)}")
    if text.count(b"{") + text.count(b"[") > DEEPEST_INPUT and nests_deeper(line, DEEPEST_INPUT):
        raise _InvalidLine(f"The line is nested more than {DEEPEST_INPUT} levels deep.")
    return line


class Spool(Sequence[BatchLine]):
    """Lines in a temporary file of this process, for any number of them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ends = array("Q", [0])

    def append(self, line: BatchLine) -> None:
        self._file.seek(0, io.SEEK_END)
        # pickle, because inputs may contain files
        self._file.write(pickle.dumps(line, pickle.HIGHEST_PROTOCOL))
        self._ends.append(self._file.tell())

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> BatchLine: ...
    @overload
    def __getitem__(self, index: slice) -> list[BatchLine]: ...
    def __getitem__(self, index: int | slice) -> BatchLine | list[BatchLine]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        self._file.seek(self._ends[at])
        return pickle.loads(self._file.read(self._ends[at + 1] - self._ends[at]))
