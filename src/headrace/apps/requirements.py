"""What a workflow needs of this machine and does not find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import Problem

if TYPE_CHECKING:
    from headrace.kernel.graph import NodeSpec
    from headrace.node import Flow
    from headrace.ports.services import Resources


def lacking(flow: Flow, resources: Resources) -> dict[str, NodeSpec]:
    """The messages about missing requirements of a workflow's nodes, such as credentials and plugins, each with the
    first node that has it."""
    messages: dict[str, NodeSpec] = {}
    for spec in flow.graph.all_nodes():
        for message in flow.nodes[spec.id].missing_requirements(resources):
            messages.setdefault(message, spec)
    return messages


def missing_requirements(flow: Flow, resources: Resources) -> list[Problem]:
    """As `lacking`, as problems of the file."""
    return [Problem(message, spec.title or spec.id, fatal=False) for message, spec in lacking(flow, resources).items()]
