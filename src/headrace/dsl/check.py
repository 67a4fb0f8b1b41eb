"""The nodes and edges of a file, and references to variables that do not exist."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from headrace.dsl.yaml_reader import Document
from headrace.errors import Problem
from headrace.frozen import frozen
from headrace.kernel.graph import NO_TRAITS, ROUND_END, SOURCE, Edge, NodeId, Traits
from headrace.kernel.variables import selectors
from headrace.node import Config, ContainerNode, Node, Read, Registry
from headrace.values import Selector, Value

_SCOPES = frozenset({"sys", "env", "conversation", "rag"})
_OF_CHATS = frozenset({"query", "conversation_id", "dialogue_count"})
_SELECTORS = frozenset({"value_selector", "variable_selector"})

Report = Callable[[Problem], None]


@frozen
class Draft:
    """A node as written. `cls` is its type, None if it is unknown; `parent` the container that the file states."""

    id: NodeId
    type: str
    title: str
    data: dict[str, Value]
    line: int | None
    parent: NodeId | None
    cls: type[Node[Config]] | None

    @property
    def traits(self) -> Traits:
        return NO_TRAITS if self.cls is None else self.cls.traits

    @property
    def is_container(self) -> bool:
        """Whether it has a graph inside."""
        return self.cls is not None and issubclass(self.cls, ContainerNode)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.title or self.id

    @property
    def kind(self) -> str:
        """The name of its type in messages: Dify has two kinds of agent nodes with one type."""
        return f"{self.type} (version 2)" if self.data.get("agent_node_kind") == "dify_agent" else self.type


@frozen
class Link:
    """An edge as written, with its line."""

    edge: Edge
    line: int | None


def mapping(value: Value) -> dict[str, Value] | None:
    """The value if it is a mapping."""
    return cast("dict[str, Value]", value) if isinstance(value, dict) else None


def number_of(text: str) -> int | float | None:
    """The finite number in a text; None if it is not one."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None  # neither infinite nor NaN


def excerpt(value: Value) -> str:
    """A value as messages quote it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def identifier(value: Value) -> str | None:
    """A node's id or a handle: a text, or a number or boolean that lost its quotes; None for other values."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value) or None
        case _:
            return None


def drafts(
    document: Document, nodes: list[Value], registry: Registry, report: Report
) -> tuple[dict[NodeId, Draft], set[NodeId]]:
    """(nodes by id, ids of notes). Notes are comments beside the graph."""
    drafts_by_id: dict[NodeId, Draft] = {}
    notes: set[NodeId] = set()
    for index, item in enumerate(nodes):
        line = document.line(nodes, index)
        node = mapping(item)
        if node is None:
            report(Problem("a node must be a mapping", field=f"nodes.{index}", line=line))
            continue
        data = mapping(node.get("data"))
        id_ = identifier(node.get("id"))
        if node.get("type") == "custom-note" or (data is not None and data.get("type") == ""):
            notes |= {id_} if id_ else set()
            continue
        title = _title(data)
        if id_ is None:
            report(Problem("a node has no id", title or None, f"nodes.{index}.id", line))
        if data is None:
            report(Problem("a node's data must be a mapping", id_, "data", document.line(node, "data")))
            continue
        kind = data.get("type")
        if not isinstance(kind, str):
            lack = "has no type" if kind is None else "has a type that is not text"
            report(Problem(f"the node {lack}", title or id_, "type", document.line(data, "type")))
            continue
        if id_ is None:
            continue
        if ROUND_END in id_:
            report(Problem(f"the id '{id_}' has a '{ROUND_END}' in it", title or id_, "id", line))
            continue
        if id_ in drafts_by_id:
            first = drafts_by_id[id_]
            report(
                Problem(f"the id '{id_}' is already used by the node in line {first.line}", title or id_, "id", line)
            )
            continue
        draft = Draft(id_, kind, title, data, line, _parent(node, data), registry.get(kind))
        drafts_by_id[id_] = draft if draft.kind == kind else replace(draft, cls=None)
    return drafts_by_id, notes


def _title(data: Mapping[str, Value] | None) -> str:
    title = data.get("title") if data else None
    return "" if title is None or isinstance(title, dict | list) else str(title)


def _parent(node: Mapping[str, Value], data: Mapping[str, Value]) -> NodeId | None:
    """The container that a node states. A copy outside keeps the container's id, but has `isInIteration: false`."""
    if parent := identifier(node.get("parentId")):
        return parent
    for flag, name in (("isInIteration", "iteration_id"), ("isInLoop", "loop_id")):
        if data.get(flag) is not False and (parent := identifier(data.get(name))):
            return parent
    return None


def links(
    document: Document, edges: list[Value], nodes: Mapping[NodeId, Draft], notes: set[NodeId], report: Report
) -> list[Link]:
    """The edges between nodes, without duplicates."""
    links_by_edge: dict[Edge, Link] = {}
    for index, item in enumerate(edges):
        line = document.line(edges, index)
        edge = mapping(item)
        if edge is None:
            report(Problem("an edge must be a mapping", field=f"edges.{index}", line=line))
            continue
        ends: list[NodeId] = []
        for side, way in (("source", "from"), ("target", "to")):
            end = identifier(edge.get(side))
            if end is None:
                report(Problem(f"an edge has no {side}", field=f"edges.{index}.{side}", line=line))
            elif end not in nodes and end not in notes:
                at = document.line(edge, side)
                message = f"an edge leads {way} a node that does not exist: '{end}'"
                report(Problem(message, field=f"edges.{index}.{side}", line=at))
            elif end in nodes:
                ends.append(end)
        if len(ends) == 2:
            link = Link(Edge(ends[0], ends[1], identifier(edge.get("sourceHandle")) or SOURCE), line)
            links_by_edge.setdefault(link.edge, link)
    return list(links_by_edge.values())


def _reads_of_unknown(data: Mapping[str, Value]) -> Iterator[Read]:
    """The evident references of a node with an unknown type or invalid fields: `value_selector`, `variable_selector`
    and `{{#a.b#}}` in text."""
    stack: list[tuple[Any, tuple[str | int, ...]]] = [(data, ())]
    while stack:
        value, path = stack.pop()
        match value:
            case str():
                if "{{#" in value:
                    yield from ((selector, path) for selector in selectors(value))
            case dict():
                items = cast("dict[str, Value]", value).items()
                stack.extend((item, (*path, key)) for key, item in reversed(items))
            case list():
                parts = cast("list[Value]", value)
                if path and path[-1] in _SELECTORS and parts and all(isinstance(part, str) for part in parts):
                    yield tuple(parts), path
                else:
                    stack.extend((part, (*path, index)) for index, part in reversed(list(enumerate(parts))))
            case _:
                pass


def unread(
    draft: Draft,
    nodes: Mapping[NodeId, Draft],
    nodes_by_id: Mapping[NodeId, Node[Config]],
    document: Document,
    names_by_scope: Mapping[str, Collection[str]],
    mode: str,
    border: Callable[[Draft, NodeId], Draft | None],
) -> Iterator[Problem]:
    """A node's references to variables that do not exist, or not where the node is. `names_by_scope` are the names of
    the file's variables by scope; `border` returns the container around a node that a reader is outside of."""
    node = None if draft.cls is None else nodes_by_id.get(draft.id)
    selectors_reported: set[Selector] = set()
    for selector, path in _reads_of_unknown(draft.data) if node is None else node.reads():
        scope = selector[0] if selector else ""
        if not scope or selector in selectors_reported:
            continue
        selectors_reported.add(selector)
        if scope in nodes:
            missing = _hidden(border(draft, scope)) or _no_output(selector, nodes[scope], nodes_by_id.get(scope))
        else:
            missing = _undeclared(selector, names_by_scope, mode)
        if missing is not None:
            name, line = document.locate(draft.data, path)
            yield Problem(f"'{'.'.join(selector)}' is read, but {missing}", draft.name, name, line, fatal=False)


def _no_output(selector: Selector, draft: Draft, node: Node[Config] | None) -> str | None:
    """Why a node has no such output; None if it has, or may have one: a handled failure has outputs of its own, and
    nodes inside a container see more of it than its outputs."""
    schema = None if node is None else node.outputs_schema()
    handled = draft.data.get("error_strategy") not in (None, "", "none")
    if schema is None or handled or draft.is_container or len(selector) == 1:
        return None
    if selector[1] in schema or (draft.traits.starts_run and selector[1].partition(".")[0] == "sys"):
        return None
    return f"'{draft.name}' has no output '{selector[1]}'"


def _hidden(container: Draft | None) -> str | None:
    """The problem of a value that is read from outside the container that produces it."""
    if container is None:
        return None
    inside = f"is set inside the {container.type} '{container.name}': outside it"
    return f"{inside} there is the value of the last round" if container.traits.loop else f"{inside} there is no value"


def _undeclared(selector: Selector, names_by_scope: Mapping[str, Collection[str]], mode: str) -> str | None:
    """Why a variable that is not a node's output does not exist; None if it may."""
    scope, name = selector[0], selector[1] if len(selector) > 1 else ""
    if scope in names_by_scope:
        return None if name in names_by_scope[scope] else f"no variable '{name}' is declared"
    if scope == "sys":
        return f"an app of mode '{mode}' has none" if mode == "workflow" and name in _OF_CHATS else None
    return None if scope in _SCOPES else f"there is no node '{scope}'"
