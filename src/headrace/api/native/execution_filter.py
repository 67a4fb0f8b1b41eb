"""Which executions of nodes a request wants, and what of them."""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import Request

from headrace.api.http.params import boolean, integer, names, text
from headrace.errors import InvalidParam
from headrace.kernel.graph import Path, is_top_level, node_of, rounds

_INCLUDE = names("include", "What else each execution has", ("cost", "first_token", "messages", "agent_log", "rounds"))
_TOP = boolean("top", "Only nodes outside of containers")
_PARENT = text("parent", "Only nodes directly in this container: its id, or its path (`include=rounds`)")
_ROUND = integer("round", "Only this round of `parent`, from 0", None, 10**9, 0)
EXECUTION_PARAMETERS = (_INCLUDE, _TOP, _PARENT, _ROUND)


class ExecutionFilter(NamedTuple):
    """`parent` is a container's id or path; None does not filter."""

    include: frozenset[str] = frozenset()
    top: bool = False
    parent: str | None = None
    round: int | None = None

    @classmethod
    def of(cls, request: Request) -> ExecutionFilter:
        execution_filter = cls(_INCLUDE.of(request), _TOP.of(request), _PARENT.of(request), _ROUND.of(request))
        if execution_filter.round is not None and execution_filter.parent is None:
            raise InvalidParam("round: Input should come with a parent")
        return execution_filter

    def accepts(self, path: Path) -> bool:
        if self.top:
            return is_top_level(path)
        if self.parent is None:
            return True
        around = rounds(path)
        if not around:
            return False
        container, index = around[-1]
        return self.parent in (container, node_of(container)) and self.round in (None, index)


ALL = ExecutionFilter()
