"""JSON as the API tells it: orjson where it can, the standard library where it must.

orjson refuses integers beyond 64 bits and lone surrogates, both of which a workflow can compute.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from headrace.values import Value, dump_default, plain_default


@dataclass(frozen=True, slots=True)
class Inputs:
    """A node's inputs inside an event: told in the dump form, where all else is plain (see `values`)."""

    values: Mapping[str, Value]


def encode(value: Any, default: Callable[[object], Value] = plain_default) -> bytes:
    """Compact UTF-8 JSON; numbers that JSON does not have (NaN, Infinity) are null."""

    def fast(item: object) -> Value:
        return orjson.Fragment(encode(item.values, dump_default)) if isinstance(item, Inputs) else default(item)

    def slow(item: object) -> Value:
        if isinstance(item, Inputs):
            return _finite(json.loads(_dumps(item.values, dump_default)))
        return _finite(default(item))

    try:
        return orjson.dumps(value, fast, orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError:
        return _dumps(_finite(value), slow).encode()


def encode_text(value: Any) -> str:
    """JSON within JSON (the inputs and outputs of a run's detail): spaced, as Dify stores it."""
    return json.dumps(_finite(value), ensure_ascii=False, default=lambda item: _finite(plain_default(item)))


def _dumps(value: Any, default: Callable[[object], Value]) -> str:
    return json.dumps(value, default=default, separators=(",", ":"))


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
