"""A node's error handling: retries, the error strategy, default values."""

from __future__ import annotations

import json
import math
from typing import cast

from headrace.dsl.check import Draft, Report, mapping
from headrace.dsl.yaml_reader import MAX_DEPTH, Document
from headrace.errors import Problem
from headrace.kernel.graph import DEFAULT_VALUE, FAIL_BRANCH, Retry
from headrace.values import Value

_KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "object": dict,
    "array[number]": list,
    "array[string]": list,
    "array[object]": list,
    "array[file]": list,
}
_ITEMS: dict[str, type | tuple[type, ...]] = {
    "array[number]": (int, float),
    "array[string]": str,
    "array[object]": dict,
}


class ErrorHandling:
    """Reads a node's `error_strategy`, `default_value` and `retry_config`, and reports problems with them.

    `strategy`: None (a failure ends the run), fail-branch or default-value.
    """

    def __init__(self, document: Document, draft: Draft, report: Report) -> None:
        self._document = document
        self._draft = draft
        self._report = report
        self.strategy = self._strategy()

    def _report_at(self, message: str, *path: str | int) -> None:
        _, line = self._document.locate(self._draft.data, path)
        self._report(Problem(message, self._draft.name, ".".join(map(str, path)), line))

    def _strategy(self) -> str | None:
        match self._draft.data.get("error_strategy"):
            case None | "" | "none":
                return None
            case "fail-branch":
                return FAIL_BRANCH
            case "default-value":
                return DEFAULT_VALUE
            case other:
                self._report_at(f"{other!r} is not an error strategy (fail-branch, default-value)", "error_strategy")
                return None

    def retry(self) -> Retry | None:
        """How often a failed attempt is repeated; None if it is not."""
        retry_config = self._draft.data.get("retry_config")
        config = mapping(retry_config)
        if config is None:
            if retry_config is not None:
                self._report_at("must be a mapping", "retry_config")
            return None
        if config.get("retry_enabled") not in (True, "true", 1):
            return None
        limit = self._amount(config, "max_retries")
        interval = self._amount(config, "retry_interval")
        return Retry(int(limit), interval / 1000) if limit >= 1 else None

    def _amount(self, config: dict[str, Value], key: str) -> float:
        value = config.get(key)
        if isinstance(value, str):
            value = _number(value)
        if value is None and not config.get(key):
            return 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
            self._report_at("must be a number of at least 0", "retry_config", key)
            return 0
        return value

    def defaults(self) -> dict[str, Value]:
        """The outputs of the node if it fails; empty for other strategies."""
        default_value = self._draft.data.get("default_value")
        if self.strategy != DEFAULT_VALUE or default_value is None:
            return {}
        if not isinstance(default_value, list):
            self._report_at("must be a list", "default_value")
            return {}
        values: dict[str, Value] = {}
        for index, item in enumerate(cast("list[Value]", default_value)):
            entry = mapping(item)
            key = entry.get("key") if entry else None
            if entry is None or not isinstance(key, str) or not key:
                self._report_at("must be a mapping with a key", "default_value", index)
                continue
            kind = entry.get("type")
            try:
                values[key] = _converted(kind, entry.get("value"))
            except (ValueError, RecursionError):
                self._report_at(f"the value of '{key}' is not of type {kind}", "default_value", index, "value")
            except TypeError:
                self._report_at(f"{kind!r} is not a type of a default value", "default_value", index, "type")
        return values


def _converted(kind: Value, value: Value) -> Value:
    """The value as one of its type; text is parsed as JSON or as a number. ValueError if that fails, TypeError for an
    unknown type."""
    if not isinstance(kind, str) or kind not in _KINDS:
        raise TypeError(kind)
    if isinstance(value, str) and kind == "number":
        value = _number(value)
    elif isinstance(value, str) and kind != "string":
        value = [] if kind == "array[file]" and not value else json.loads(value)
    items: list[Value] = cast("list[Value]", value) if isinstance(value, list) else []
    if not isinstance(value, _KINDS[kind]) or not all(isinstance(item, _ITEMS.get(kind, object)) for item in items):
        raise ValueError(kind)
    if not _bounded(value):
        raise ValueError(kind)
    return cast("Value", value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _bounded(value: Value) -> bool:
    """Whether it can be stored as JSON: not too deep, and without infinite numbers."""
    level: list[Value] = [value]
    for _ in range(MAX_DEPTH):
        if any(isinstance(item, float) and not math.isfinite(item) for item in level):
            return False
        below: list[Value] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(cast("dict[str, Value]", item).values())
            elif isinstance(item, list):
                below.extend(cast("list[Value]", item))
        if not below:
            return True
        level = below
    return False
