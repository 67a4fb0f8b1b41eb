"""An app's graph as the file draws it: where its nodes are, and what leads where. Without what nodes are configured
with: prompts, code and credentials stay in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from headrace.api.native.schemas.apps import AppGraph, GraphEdge, GraphNode
from headrace.dsl.check import mapping
from headrace.dsl.yaml_reader import read
from headrace.kernel.graph import Graph, NodeSpec
from headrace.node import Flow
from headrace.ports import Version
from headrace.values import Value

_NOTE = "note"
_LONGEST_NOTE = 4000  # characters


def graph_of(version: Version, flow: Flow) -> AppGraph:
    """The graph of a version. Secrets are masked."""
    workflow = mapping(read(version.content, f"version {version.number}").value.get("workflow")) or {}
    graph = mapping(workflow.get("graph")) or {}
    nodes, edges = _entries(graph.get("nodes")), _entries(graph.get("edges"))
    if nodes:
        nodes_by_id = {str(node.get("id")): node for node in nodes}
        specs = {spec.id: spec for spec in flow.graph.all_nodes()}
        body: AppGraph = {
            "version_id": version.id,
            "nodes": [_node(node, nodes_by_id, specs) for node in nodes],
            "edges": [edge for entry in edges if (edge := _edge(entry, nodes_by_id)) is not None],
        }
    else:  # an app without a workflow of its own
        body = {
            "version_id": version.id,
            "nodes": [_undrawn(spec.id, spec.type, spec.title, spec.parent) for spec in flow.graph.all_nodes()],
            "edges": list(_edges_of(flow.graph)),
        }
    return cast("AppGraph", flow.mask.value(cast("Any", body))) if flow.mask else body


def _entries(value: Value) -> list[dict[str, Value]]:
    entries = cast("list[Value]", value) if isinstance(value, list) else []
    return [entry for item in entries if (entry := mapping(item)) is not None]


def _undrawn(id_: str, type_: str, title: str, parent: str | None) -> GraphNode:
    return {
        "id": id_,
        "type": type_,
        "title": title,
        "parent_id": parent,
        "x": None,
        "y": None,
        "width": None,
        "height": None,
    }


def _node(
    node: Mapping[str, Value], nodes_by_id: Mapping[str, Mapping[str, Value]], specs: Mapping[str, NodeSpec]
) -> GraphNode:
    data = mapping(node.get("data")) or {}
    spec = specs.get(str(node.get("id")))
    parent = spec.parent if spec is not None else _parent(node)
    title = spec.title if spec is not None else data.get("title")
    type_ = str(data.get("type") or _NOTE)
    body = _undrawn(str(node.get("id")), type_, str(title or ""), parent)
    body["x"], body["y"] = _position(node, nodes_by_id)
    body["width"], body["height"] = _number(node.get("width")), _number(node.get("height"))
    if type_ == _NOTE:
        body["text"] = _note_text(data.get("text"))
    if (model := mapping(data.get("model"))) and model.get("name"):
        body["model"] = {"provider": str(model.get("provider") or ""), "name": str(model["name"])}
    return body


def _parent(node: Mapping[str, Value]) -> str | None:
    parent = node.get("parentId")
    return str(parent) if parent else None


def _position(
    node: Mapping[str, Value], nodes_by_id: Mapping[str, Mapping[str, Value]], depth: int = 0
) -> tuple[float | None, float | None]:
    """Where a node is on the canvas; that of a node in a container may be relative to it."""
    absolute = mapping(node.get("positionAbsolute")) or {}
    x, y = _number(absolute.get("x")), _number(absolute.get("y"))
    if x is not None and y is not None:
        return x, y
    relative = mapping(node.get("position")) or {}
    x, y = _number(relative.get("x")), _number(relative.get("y"))
    container = nodes_by_id.get(_parent(node) or "")
    if x is None or y is None or container is None or depth > 10:
        return (x, y) if x is not None and y is not None else (None, None)
    left, top = _position(container, nodes_by_id, depth + 1)
    return (None, None) if left is None or top is None else (left + x, top + y)


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e9 else None


def _edge(edge: Mapping[str, Value], nodes_by_id: Mapping[str, object]) -> GraphEdge | None:
    source, target = str(edge.get("source")), str(edge.get("target"))
    if source not in nodes_by_id or target not in nodes_by_id:
        return None
    handle = str(edge.get("sourceHandle") or "source")
    return {
        "id": str(edge.get("id") or f"{source}-{handle}-{target}"),
        "source": source,
        "target": target,
        "source_handle": handle,
    }


def _edges_of(graph: Graph) -> list[GraphEdge]:
    edges: list[GraphEdge] = [
        {
            "id": f"{edge.source}-{edge.handle}-{edge.target}",
            "source": edge.source,
            "target": edge.target,
            "source_handle": edge.handle,
        }
        for edge in graph.edges
    ]
    return edges + [edge for body in graph.bodies.values() for edge in _edges_of(body.graph)]


def _note_text(text: Value) -> str:
    """The text of a note, which Dify's editor stores as its own JSON: a paragraph is a line."""
    if not isinstance(text, str):
        return ""
    try:
        document: Any = json.loads(text)
        root = document["root"]
        lines = ["".join(_texts(paragraph, 0)) for paragraph in root["children"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return text[:_LONGEST_NOTE]  # not the editor's
    return "\n".join(lines)[:_LONGEST_NOTE]


def _texts(node: Any, depth: int) -> list[str]:
    if not isinstance(node, dict) or depth > 50:
        return []
    fields = cast("dict[str, Any]", node)
    own = [fields["text"]] if isinstance(fields.get("text"), str) else []
    children: Any = fields.get("children")
    inside = cast("list[Any]", children) if isinstance(children, list) else []
    return own + [text for child in inside for text in _texts(child, depth + 1)]
