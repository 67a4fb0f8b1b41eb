"""JSON Schemas of tools: the types of parameters, and schemas with what they refer to in place of their references."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from headrace.ports.services.tools import ParameterType

PARAMETER_TYPES: Mapping[str, ParameterType] = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "array": "array",
    "object": "object",
}
"""By the type of a JSON Schema."""
MOST_REFERENCES = 1_000  # of one schema; where there are more, it is cut off at the next smaller depth
_DEPTHS = (8, 4, 3, 2)  # of references one inside the other: schemas that refer to themselves are cut off there


def inlined(copy: Callable[[int, Iterator[int]], Any]) -> Any:
    """A schema without references, at the largest depth at which it stays small.

    `copy(depth, references)` makes it: it follows references `depth` deep, takes a number from `references` for each,
    and follows none beyond MOST_REFERENCES.
    """
    result: Any = {}
    for depth in _DEPTHS:
        references = count(1)
        result = copy(depth, references)
        if next(references) <= MOST_REFERENCES:
            break
    return result
