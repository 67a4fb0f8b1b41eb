"""The steps of nodes as people see them: the data of Dify's `agent_log` event, and an agent's output `json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast
from uuid import NAMESPACE_OID, uuid5

from typing_extensions import TypedDict

from headrace.kernel.steps import NO_METADATA, Step
from headrace.node import Config, Node
from headrace.values import Value

_LONGEST_COPY = 10_000
"""Characters of a text that is in another log already. The answers of an agent's tools may be large."""


class LogEntry(TypedDict):
    """A step of a node. `data` is empty until it has ended, and if it has failed."""

    id: str
    parent_id: str | None
    label: str
    status: Literal["start", "success", "error"]
    error: str | None
    data: Mapping[str, Value]
    metadata: Mapping[str, Value]


def log_entry(node: Node[Config], step: Step, *, repeated: bool = False) -> LogEntry:
    """What is shown of a step. `node` is the one that it is a part of; the long texts of a `repeated` one are cut."""
    succeeded = step.ended and step.error is None
    data, metadata = node.step_log(step) if succeeded else (NO_METADATA, NO_METADATA)
    return {
        "id": _id(step.key),
        "parent_id": _id(step.parent_key) if step.parent_key else None,
        "label": step.label,
        "status": "success" if succeeded else "error" if step.ended else "start",
        "error": step.error,
        "data": {name: shortened(value) for name, value in data.items()} if repeated else data,
        "metadata": {**step.times, **step.metadata, **metadata},
    }


def shortened(value: Value) -> Value:
    """The value with its long texts cut."""
    match value:
        case str() if (rest := len(value) - _LONGEST_COPY) > 0:
            return f"{value[:_LONGEST_COPY]}... ({rest} more characters)"
        case dict():
            return {name: shortened(item) for name, item in cast("dict[str, Value]", value).items()}
        case list():
            return [shortened(item) for item in cast("list[Value]", value)]
        case _:
            return value


def _id(key: str) -> str:
    return str(uuid5(NAMESPACE_OID, key))
