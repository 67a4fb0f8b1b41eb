"""Tool calls, assembled from the pieces in which they are streamed.

A piece has the `index` of its call, an `id` and a name (usually only in the call's first piece), and a part of the text
of its arguments. Providers deviate from this in several ways, all of which are understood:

    no index, or 0 for every call        a piece with another id and a name begins a call
    neither an index nor an id           another name begins one, or the same name after complete arguments
    no id, or an empty one               the call gets one from its position
    a new id with every piece            is ignored without a name
    the name repeated with every piece   it is the same name, not more of it
    arguments as an object               they are its JSON text
    `function_call`                      the one call of the protocol before tools
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from headrace.adapters.models.failures import CONNECTION, Failure
from headrace.content.surrogates import mend_text
from headrace.ports.services import ToolCall

MAX_SIZE = 16 * 1024 * 1024  # characters of all calls of an answer
_PIECE = 16  # added for every piece, so that a stream of empty pieces ends, too


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])
    extra_content: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return mend_text("".join(self.arguments))

    @property
    def complete(self) -> bool:
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return False
        try:
            json.loads(self.text)
        except (ValueError, RecursionError):
            return False
        return True


class Calls:
    """The calls of one answer as they arrive."""

    __slots__ = ("_at", "_calls", "_size")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, delta: Mapping[str, Any], *, whole: bool = False) -> None:
        """Adds the calls in a piece of an answer, or in a `whole` one, where every entry is a call of its own.
        TypeError if they do not have the structure of calls; Failure if they grow too large."""
        entries: Any = delta.get("tool_calls")
        if not entries and (old := delta.get("function_call")):
            entries = [{"index": 0, "function": old}]
        if not entries:
            return
        if not isinstance(entries, list):
            raise TypeError("tool_calls is not a list")
        for entry in cast("list[Any]", entries):
            if isinstance(entry, dict):
                self._piece(cast("dict[str, Any]", entry), whole=whole)
            elif entry is not None:
                raise TypeError("a tool call is not an object")

    def calls(self) -> tuple[ToolCall, ...]:
        """The calls, in the order of their first pieces, without empty ones."""
        return tuple(
            ToolCall(call.id or f"call_{place}", call.name, call.text, call.extra_content)
            for place, call in enumerate(self._calls)
            if call.name or call.text
        )

    def _piece(self, entry: Mapping[str, Any], *, whole: bool) -> None:
        function = entry.get("function")
        if function is None:
            function = {}
        if not isinstance(function, dict):
            raise TypeError("a tool call's function is not an object")
        fields = cast("dict[str, Any]", function)
        identity, name = _word(entry.get("id")), _word(fields.get("name"))
        arguments = _arguments(fields.get("arguments"))
        self._size += _PIECE + len(identity) + len(name) + len(arguments)
        if self._size > MAX_SIZE:
            raise Failure(f"The provider sent tool calls of more than {MAX_SIZE} characters.", CONNECTION)
        index = entry.get("index")
        call = None if whole else self._continued(index if isinstance(index, int) else None, identity, name)
        if call is None:
            call = _Call()
            self._calls.append(call)
        if isinstance(index, int):
            self._at[index] = call
        if isinstance(extra := entry.get("extra_content"), dict):
            call.extra_content = cast("dict[str, Any]", extra)
        call.id = call.id or identity
        if name != call.name:
            call.name += name
        call.arguments.append(arguments)

    def _continued(self, index: int | None, identity: str, name: str) -> _Call | None:
        """The call that a piece belongs to; None if it begins one."""
        call = self._at.get(index) if index is not None else self._calls[-1] if self._calls else None
        if call is None or not name or not call.name:
            return call
        if identity:
            return call if identity == call.id or not call.id else None
        if index is None and (name != call.name or call.complete):
            return None
        return call


def _word(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("a tool call's id or name is not a string")
    return value


def _arguments(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            raise TypeError("a tool call's arguments are not text")
