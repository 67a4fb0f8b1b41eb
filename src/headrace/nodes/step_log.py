"""The steps of nodes as people see them: the data of Dify's `agent_log` event, and an agent's output `json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from uuid import NAMESPACE_OID, uuid5

from typing_extensions import TypedDict

from headrace.kernel.steps import NO_METADATA, Step
from headrace.node import Config, Node
from headrace.values import Value


class LogEntry(TypedDict):
    """A step of a node. `data` is empty until it has ended."""

    id: str
    parent_id: str | None
    label: str
    status: Literal["start", "success", "error"]
    error: str | None
    data: Mapping[str, Value]
    metadata: Mapping[str, Value]


def log_entry(node: Node[Config], step: Step) -> LogEntry:
    """What is shown of a step. `node` is the one that it is a part of."""
    data, metadata = node.step_log(step) if step.ended else (NO_METADATA, NO_METADATA)
    return {
        "id": _id(step.key),
        "parent_id": _id(step.parent_key) if step.parent_key else None,
        "label": step.label,
        "status": "success" if step.ended else "start",
        "error": None,
        "data": data,
        "metadata": {**step.times, **step.metadata, **metadata},
    }


def _id(key: str) -> str:
    return str(uuid5(NAMESPACE_OID, key))
