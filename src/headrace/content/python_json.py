"""JSON from outside, as Python's own parser (and so Dify) accepts it: in UTF-8, UTF-16 or UTF-32, with or without a
byte order mark, with NaN and Infinity, integers of any size, and lone surrogates."""

from __future__ import annotations

import json
from json import JSONDecodeError
from typing import Any

import orjson

from headrace.content.surrogates import may_hold, mend

# orjson turns an integer beyond 64 bits into a float
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else 0 for byte in range(256))
_LONG = b"0" * 19


def load_json(text: bytes | str, *, mended: bool = True) -> Any:
    """Parses JSON, and mends its strings (`surrogates`) unless the caller does. JSONDecodeError if it is invalid or
    nested too deep."""
    if isinstance(text, str):
        return _load(text, mended)
    try:
        if _LONG not in text.translate(_DIGITS):  # a tenth of what a regular expression takes
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
