"""JSON as the API sends it: by orjson where possible, by the standard library otherwise.

orjson rejects integers beyond 64 bits, which a workflow can compute, and lone surrogates, which only a third-party node
can return: `content.surrogates` replaces them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from headrace.content.surrogates import mend_text
from headrace.values import Value, json_default, json_default_with_origin


@dataclass(frozen=True, slots=True)
class Inputs:
    """A node's inputs inside an event: encoded with the origin of its Variables (see `values`)."""

    values: Mapping[str, Value]


def _encode_default(item: object) -> Value:
    return (
        orjson.Fragment(encode(item.values, json_default_with_origin))
        if isinstance(item, Inputs)
        else json_default(item)
    )


def encode(value: Any, default: Callable[[object], Value] = _encode_default) -> bytes:
    """Compact UTF-8 JSON; numbers that JSON does not have (NaN, Infinity) are null."""
    try:
        # dataclasses pass through: orjson would encode files and variables in a way of its own
        return orjson.dumps(value, default, orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError:
        return mend_text(_dumps(_finite(value), default)).encode()


def _dumps(value: Any, default: Callable[[object], Value]) -> str:
    def default_of(item: object) -> Value:
        if isinstance(item, Inputs):
            return json.loads(_dumps(_finite(item.values), json_default_with_origin))
        return _finite(default(item))

    return json.dumps(value, default=default_of, separators=(",", ":"), ensure_ascii=False)


def encode_text(value: Any) -> str:
    """JSON within JSON (the inputs and outputs of a run's detail): spaced, as Dify stores it."""
    text = json.dumps(_finite(value), ensure_ascii=False, default=lambda item: _finite(json_default(item)))
    return mend_text(text)


def iso(at: float) -> str:
    """Seconds since the epoch as ISO 8601, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _finite(value: Value) -> Value:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in cast("dict[str, Value]", value).items()}
        case list() | tuple():
            return [_finite(item) for item in cast("list[Value]", value)]
        case _:
            return value
