"""What a workflow needs of this machine and does not find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.errors import Problem

if TYPE_CHECKING:
    from headrace.kernel.graph import NodeSpec
    from headrace.node import Flow
    from headrace.ports.services import Resources

_CODE = "provider_not_initialize: "  # how Dify's error of a run begins


def lacking(flow: Flow, resources: Resources) -> dict[str, NodeSpec]:
    """The messages about missing requirements of a workflow's nodes, such as credentials and plugins, each with the
    first node that has it."""
    return {message: specs[0] for message, specs in _lacking(flow, resources).items()}


def missing_requirements(flow: Flow, resources: Resources) -> list[Problem]:
    """As `lacking`, as problems of the file."""
    names = named_nodes(flow)
    return [
        Problem(f"{message}{_others([names[spec.id] for spec in others])}", names[first.id], fatal=False)
        for message, (first, *others) in _lacking(flow, resources).items()
    ]


def _lacking(flow: Flow, resources: Resources) -> dict[str, list[NodeSpec]]:
    messages: dict[str, list[NodeSpec]] = {}
    for spec in flow.graph.all_nodes():
        for message in flow.nodes[spec.id].missing_requirements(resources):
            messages.setdefault(message.removeprefix(_CODE), []).append(spec)
    return messages


def named_nodes(flow: Flow) -> dict[str, str]:
    """The title of each node, by its id; of nodes with the same title also the ids."""
    titles = {spec.id: spec.title or spec.id for spec in flow.graph.all_nodes()}
    count = Counter(titles.values())
    return {id_: title if count[title] == 1 else f"{title} ({id_})" for id_, title in titles.items()}


def _others(names: Sequence[str]) -> str:
    return f" (also for {', '.join(map(repr, names))})" if names else ""
