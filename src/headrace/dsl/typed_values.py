"""Values that a file declares with a type, as of that type."""

from __future__ import annotations

import json
from collections.abc import Mapping

from headrace.values import Value, is_of_type

_BLANK: Mapping[str, Value] = {"string": "", "secret": "", "number": 0, "object": {}, "boolean": False}


def blank(type_: str) -> Value:
    """What a variable of a type has that nobody gave a value."""
    return [] if type_.startswith("array") else _BLANK.get(type_)


def fitted(value: Value, type_: str) -> tuple[bool, Value]:
    """(fits, the value as one of the type): a scalar that lost its quotes is text again, and the text of a number, of
    an object or a list is read; what fits in no way is blank, and null is none yet."""
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
