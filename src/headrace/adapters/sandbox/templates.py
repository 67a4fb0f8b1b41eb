"""Jinja2 templates, some of which may be rendered in this process.

`plan` checks a template's syntax tree. A safe one is compiled once and rendered here, with copies of the inputs; others
are for a confined process. Safe means that the work is bounded in advance: only calls of a few methods, no operators
that multiply, no nested loops, and a deadline that is checked in every iteration and after every piece of output.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from headrace.frozen import frozen

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.sandbox import SandboxedEnvironment

LONGEST = 16_000  # characters of a template that is rendered here
MOST_WORK = 300_000  # the inputs' size times the cost of the template's operations
SECONDS = 0.005  # limit of a render here; then it is repeated in a confined process


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_METHODS = _words(
    "items keys values get strip lstrip rstrip lower upper title capitalize startswith endswith split splitlines "
    "find count index isdigit isalpha isnumeric"
)
_FILTERS = _words(
    "abs capitalize count d default e escape first float forceescape int items join last length list lower max min "
    "reject rejectattr reverse round safe select selectattr sort string sum title tojson trim truncate "
    "unique upper urlencode wordcount map"
)
# Filters that multiply their input by their arguments, which must be small constants.
_CONSTANT = _words("join tojson round truncate map default d sum select selectattr reject rejectattr")
_MAPPED = _words("upper lower trim string int float length title capitalize")
_TESTS = _words(
    "boolean defined divisibleby eq equalto even false float ge gt greaterthan in integer iterable le lessthan lower "
    "lt mapping ne none number odd sameas sequence string true undefined upper == != > >= < <="
)
_FREE = _words(
    "Template Output TemplateData Name Const Getattr Getitem If CondExpr Operand And Or Not List Tuple Dict Pair "
    "Keyword Neg Pos"
)
_COUNTED = _words("Filter Test Compare Concat Add Sub Div Call For Slice")
_COSTS = {"tojson": 4, "sort": 20, "list": 10, "unique": 10, "title": 10, "urlencode": 10, "wordcount": 10}
_SHORT = 100


class Slow(Exception):
    """A render exceeded the time limit here."""


_REMEMBERED = 512  # templates
_slow: OrderedDict[str, int] = OrderedDict()  # source -> the smallest weight of inputs for which it was too slow


def was_slow(source: str, weight: int) -> bool:
    """Whether a template took too long here with inputs as large as these, or smaller ones."""
    return weight >= _slow.get(source, weight + 1)


def remember_slow(source: str, weight: int) -> None:
    """Records it, so that such inputs are rendered in a confined process from the start."""
    _slow[source] = min(weight, _slow.get(source, weight))
    _slow.move_to_end(source)
    if len(_slow) > _REMEMBERED:
        _slow.popitem(last=False)


class TooLong(Exception):
    """The text exceeded its limit."""


_deadline: ContextVar[float | None] = ContextVar("template_deadline", default=None)


def _paced(iterable: Iterable[Any]) -> Iterator[Any]:
    deadline = _deadline.get()
    for item in iterable:
        yield item
        if deadline is not None and time.monotonic() > deadline:
            raise Slow


@lru_cache(1)
def environment() -> SandboxedEnvironment:
    """The defaults of Jinja2, as in Dify; sandboxed, even in a confined process."""
    from jinja2.sandbox import SandboxedEnvironment

    jinja = SandboxedEnvironment(autoescape=False, cache_size=0)
    cast("dict[str, Any]", jinja.filters)["_paced"] = _paced
    return jinja


def render(template: Template, inputs: Mapping[str, Any], most: int, seconds: float | None = None) -> str:
    """The text. TooLong beyond `most` characters; Slow after `seconds`, if given; and the errors of Jinja2."""
    deadline = None if seconds is None else time.monotonic() + seconds
    token = _deadline.set(deadline)
    try:
        size, pieces = 0, list[str]()
        for piece in template.generate(**inputs):
            size += len(piece)
            if size > most:
                raise TooLong(f"The template's output is longer than {most} characters.")
            if deadline is not None and time.monotonic() > deadline:
                raise Slow
            pieces.append(piece)
        return "".join(pieces)
    finally:
        _deadline.reset(token)


def describe(error: BaseException) -> str:
    """A template's error for its author, with the line."""
    if isinstance(error, TooLong):
        return str(error)
    line = getattr(error, "lineno", None)
    frames = error.__traceback__
    while frames is not None:
        if frames.tb_frame.f_code.co_filename in ("<template>", "<unknown>"):
            line = frames.tb_lineno
        frames = frames.tb_next
    where = f" (line {line} of the template)" if line else ""
    return f"{type(error).__name__}: {error}{where}"[-20_000:]


# --------------------------------------------------------------------------------------------------------- the gate


@frozen
class RenderPlan:
    """A template that may be rendered in this process, and the cost of its operations."""

    template: Template
    cost: int


@lru_cache(512)
def plan(source: str) -> RenderPlan | None:
    """The compiled template, if it may be rendered here; None if it needs a confined process, or is malformed."""
    from jinja2 import TemplateSyntaxError, nodes

    if len(source) > LONGEST:
        return None
    jinja = environment()
    try:
        tree = jinja.parse(source)
        cost = _Gate(nodes).admit(tree)
        if cost is None:
            return None
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_paced", [], [], None, None, lineno=loop.lineno)
        return RenderPlan(jinja.from_string(cast("Any", tree)), cost)
    except (TemplateSyntaxError, RecursionError, MemoryError):
        return None


class _Gate:
    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes

    def admit(self, tree: nodes.Template) -> int | None:
        """The cost of the template's operations; None if it may not be rendered here."""
        cost = 0
        waiting: list[tuple[Any, int]] = [(tree, 0)]
        while waiting:
            node, depth = waiting.pop()
            name = type(node).__name__
            if name in _COUNTED:
                if (more := self._cost(node, name, depth)) is None:
                    return None
                cost += more
            elif name not in _FREE:
                return None
            waiting.extend((child, depth + (name == "For")) for child in node.iter_child_nodes())
        return cost

    def _cost(self, node: Any, name: str, depth: int) -> int | None:
        match name:
            case "For":
                return 1 if depth == 0 and not node.recursive else None
            case "Call":
                method = isinstance(node.node, self._nodes.Getattr) and node.node.attr in _METHODS
                return 1 if method and node.dyn_args is None and node.dyn_kwargs is None else None
            case "Filter":
                return self._filter_cost(node)
            case "Test":
                return 1 if node.name in _TESTS else None
            case _:
                return 1

    def _filter_cost(self, node: Any) -> int | None:
        if node.name not in _FILTERS or node.dyn_args is not None or node.dyn_kwargs is not None:
            return None
        arguments = [*node.args, *(pair.value for pair in node.kwargs)]
        if node.name in _CONSTANT and not all(self._small(value) for value in arguments):
            return None
        match node.name:
            case "map" if node.args:
                return 1 if node.args[0].value in _MAPPED and not node.kwargs else None
            case "tojson" if any(inner.name == "tojson" for inner in node.find_all(self._nodes.Filter)):
                return None  # nested quoting doubles the text each time
            case "join":
                return 1 + max((len(str(value.value)) for value in arguments), default=0)
            case name:
                return _COSTS.get(name, 1)

    def _small(self, value: Any) -> bool:
        if not isinstance(value, self._nodes.Const):
            return False
        constant = value.value
        if isinstance(constant, str):
            return len(constant) <= _SHORT
        return constant is None or (isinstance(constant, int | float) and abs(constant) <= 10 * _SHORT)


def weight(inputs: object, most: int) -> int:
    """The size of the inputs in characters and entries; counting stops a little above `most`."""
    total, waiting = 0, [inputs]
    while waiting and total <= most:
        value = waiting.pop()
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, dict):
            pairs = cast("dict[str, Any]", value)
            total += sum(map(len, pairs))
            waiting.extend(pairs.values())
        elif isinstance(value, list):
            waiting.extend(cast("list[Any]", value))
        total += 1
    return total
