"""Workflows that ask people, as Dify's editor writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

PARAGRAPH = {"type": "paragraph", "output_variable_name": "comment", "default": None}
APPROVE = {"id": "approve", "title": "Approve", "button_style": "primary"}
REJECT = {"id": "reject", "title": "Send back", "button_style": "default"}
WEBAPP = {"id": "8b8e1c7e-6b6e-4d0e-9d3a-0a3a0a3a0a3a", "type": "webapp", "enabled": True, "config": {}}


def human_input(**fields: Any) -> dict[str, Any]:
    """The data of a human-input node."""
    return {
        "type": "human-input",
        "title": "Review",
        "delivery_methods": [WEBAPP],
        "form_content": "# Draft\n{{#s.q#}}\nComment: {{#$output.comment#}}",
        "inputs": [PARAGRAPH],
        "user_actions": [APPROVE, REJECT],
        "timeout": 1,
        "timeout_unit": "hour",
        **fields,
    }


def workflow(
    nodes: Mapping[str, Mapping[str, Any]],
    edges: Sequence[str],
    outputs: Mapping[str, Sequence[str]] | None = None,
    mode: str = "workflow",
) -> str:
    """A file with a start node `s` and an end (or answer) node `e`; an edge is "a>b" or "a:handle>b"."""
    start = {"type": "start", "title": "Start", "variables": [{"variable": "q", "label": "q", "type": "paragraph"}]}
    declared = [{"variable": name, "value_selector": list(selector)} for name, selector in (outputs or {}).items()]
    end = {"type": "end", "title": "End", "outputs": declared}
    if mode != "workflow":
        start["variables"] = []
        end = {
            "type": "answer",
            "title": "Answer",
            "answer": " ".join(f"{{{{#{'.'.join(s)}#}}}}" for s in (outputs or {}).values()),
        }
    written = [
        {"id": name, "data": dict(data), **({"parentId": data["parent"]} if "parent" in data else {})}
        for name, data in {"s": start, **nodes, "e": end}.items()
    ]
    links: list[dict[str, str]] = []
    for edge in edges:
        source, target = edge.split(">")
        name, _, handle = source.partition(":")
        links.append({"id": edge, "source": name, "sourceHandle": handle or "source", "target": target})
    body = {
        "app": {"mode": mode, "name": "review"},
        "kind": "app",
        "version": "0.6.0",
        "workflow": {
            "environment_variables": [{"name": "KEY", "value": "hunter2!", "value_type": "secret"}],
            "features": {},
            "graph": {"nodes": written, "edges": links},
        },
    }
    return yaml.safe_dump(body, allow_unicode=True)


OUTPUTS = {
    "action": ["ask", "__action_id"],
    "title": ["ask", "__action_value"],
    "content": ["ask", "__rendered_content"],
    "comment": ["ask", "comment"],
}
REVIEW = workflow({"ask": human_input()}, ["s>ask", "ask:approve>e", "ask:__timeout>e"], OUTPUTS)
"""A review: `approve` and a timeout lead to the end, `reject` nowhere."""
