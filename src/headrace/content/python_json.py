"""JSON from outside, as Python's own reader takes it, which is what Dify reads with: in UTF-8, UTF-16 or UTF-32, with
or without a byte order mark, with NaN and Infinity, integers of any size, and halves of characters (`surrogates`)."""

from __future__ import annotations

import json
import re
from json import JSONDecodeError
from typing import Any

import orjson

from headrace.content.surrogates import may_hold, mend

_LONG = re.compile(rb"\d{19}")  # orjson makes a float of an integer beyond 64 bits


def load_json(text: bytes | str, *, mended: bool = True) -> Any:
    """The value that JSON stands for, its texts mended unless the caller sees to that. JSONDecodeError where it is not
    JSON, or nested too deep."""
    if isinstance(text, str):
        return _load(text, mended)
    try:
        if not _LONG.search(text):
            return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return _load(text.decode(json.detect_encoding(text), "surrogatepass"), mended)
    except UnicodeDecodeError as error:
        raise JSONDecodeError(f"not text in {error.encoding}", "", error.start) from None


def _load(text: str, mended: bool) -> Any:
    try:
        value: Any = json.loads(text)
        return mend(value) if mended and may_hold(text) else value
    except JSONDecodeError:
        raise
    except RecursionError:
        raise JSONDecodeError("nested too deep", "", 0) from None
    except ValueError as error:  # an integer of thousands of digits
        raise JSONDecodeError(str(error), "", 0) from None
