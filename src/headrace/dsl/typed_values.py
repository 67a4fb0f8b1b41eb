"""Values of declared types, as in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping

from headrace.values import Value, is_of_type

_BLANK: Mapping[str, Value] = {"string": "", "secret": "", "number": 0, "object": {}, "boolean": False}


def blank(type_: str) -> Value:
    """The value of a variable of a type without a value in the file."""
    return [] if type_.startswith("array") else _BLANK.get(type_)


def fitted(value: Value, type_: str) -> tuple[bool, Value]:
    """(whether it fits, the value as one of the type): a scalar that lost its quotes becomes text, and text is parsed
    for a number, object or list. A value that does not fit is replaced by the blank one; null is allowed."""
    if value == "":
        return True, blank(type_)
    if value is None or is_of_type(value, type_):
        return True, value
    if type_ in ("string", "secret"):
        scalar = isinstance(value, bool | int | float)
        return scalar, json.dumps(value) if scalar else ""
    if isinstance(value, str):
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            read = None
        if read is not None and is_of_type(read, type_):
            return True, read
    return False, blank(type_)
