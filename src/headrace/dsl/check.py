"""What a graph as written must be before it can run: levels, edges, roots, no cycle, nothing out of reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from headrace.dsl.source import Document
from headrace.errors import Problem
from headrace.kernel.graph import BODY_STARTS, ROUND_END, SOURCE, Edge, NodeId
from headrace.kernel.variables import selectors
from headrace.values import Selector, Value

CONTAINERS = frozenset({"iteration", "loop"})
MAX_CYCLES = 10  # told; a tangle has more of them than anyone wants to read
_SCOPES = frozenset({"sys", "env", "conversation", "rag"})
_OF_CHATS = frozenset({"query", "conversation_id", "dialogue_count"})
_SELECTORS = frozenset({"value_selector", "variable_selector"})

Report = Callable[[Problem], None]


@dataclass(frozen=True, slots=True)
class Draft:
    """A node as written, before its type has been asked. `parent` is the container it is in, as the file says."""

    id: NodeId
    type: str
    title: str
    data: dict[str, Value]
    line: int | None
    parent: NodeId | None

    @property
    def name(self) -> str:
        """What a user knows it by."""
        return self.title or self.id


@dataclass(frozen=True, slots=True)
class Link:
    """An edge as written, with its line."""

    edge: Edge
    line: int | None


@dataclass(frozen=True, slots=True)
class Level:
    """What is left of the top level, or of a container's body, once it is checked."""

    nodes: Sequence[Draft]
    links: Sequence[Link]
    root: Draft


def mapping(value: Value) -> dict[str, Value] | None:
    """The value if it is a mapping."""
    return cast("dict[str, Value]", value) if isinstance(value, dict) else None


def identifier(value: Value) -> str | None:
    """A node's id or a handle: text; numbers and booleans that lost their quotes are text again; None for others."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value) or None
        case _:
            return None


def drafts(document: Document, nodes: list[Value], report: Report) -> tuple[dict[NodeId, Draft], set[NodeId]]:
    """(nodes by id, ids of notes). Notes are what people wrote beside the graph; nobody runs them."""
    found: dict[NodeId, Draft] = {}
    notes: set[NodeId] = set()
    for index, item in enumerate(nodes):
        line = document.line(nodes, index)
        node = mapping(item)
        if node is None:
            report(Problem("a node is to be a mapping", field=f"nodes.{index}", line=line))
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
            report(Problem("a node's data is to be a mapping", id_, "data", document.line(node, "data")))
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
        if id_ in found:
            first = found[id_]
            report(Problem(f"the id '{id_}' is taken by the node in line {first.line}", title or id_, "id", line))
            continue
        found[id_] = Draft(id_, kind, title, data, line, _parent(node, data))
    return found, notes


def _title(data: Mapping[str, Value] | None) -> str:
    title = data.get("title") if data else None
    return "" if title is None or isinstance(title, dict | list) else str(title)


def _parent(node: Mapping[str, Value], data: Mapping[str, Value]) -> NodeId | None:
    """The container a node says it is in. A copy pulled out of one keeps its id, but says `isInIteration: false`."""
    if parent := identifier(node.get("parentId")):
        return parent
    for flag, name in (("isInIteration", "iteration_id"), ("isInLoop", "loop_id")):
        if data.get(flag) is not False and (parent := identifier(data.get(name))):
            return parent
    return None


def links(
    document: Document, edges: list[Value], nodes: Mapping[NodeId, Draft], notes: set[NodeId], report: Report
) -> list[Link]:
    """The edges between nodes; one that stands twice counts once."""
    found: dict[Edge, Link] = {}
    for index, item in enumerate(edges):
        line = document.line(edges, index)
        edge = mapping(item)
        if edge is None:
            report(Problem("an edge is to be a mapping", field=f"edges.{index}", line=line))
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
            made = Edge(ends[0], ends[1], identifier(edge.get("sourceHandle")) or SOURCE)
            found.setdefault(made, Link(made, line))
    return list(found.values())


class Levels:
    """The nodes and edges of a file, sorted into the top level and the bodies of containers."""

    def __init__(self, nodes: Mapping[NodeId, Draft], edges: Iterable[Link], report: Report) -> None:
        self._nodes = nodes
        self._report = report
        self._inside: defaultdict[NodeId | None, list[Draft]] = defaultdict(list)
        self._links: defaultdict[NodeId | None, list[Link]] = defaultdict(list)
        home: dict[NodeId, NodeId | None] = {}
        for node in nodes.values():
            parent = node.parent
            if parent is not None and parent not in nodes:
                message = f"the node is said to be inside '{parent}', which does not exist: taken as outside"
                report(Problem(message, node.name, "parentId", node.line, fatal=False))
                parent = None
            home[node.id] = parent
            self._inside[parent].append(node)
        self._nested(home)
        for link in edges:
            source, target = link.edge.source, link.edge.target
            if home[source] == home[target]:
                self._links[home[source]].append(link)
            else:
                message = f"an edge leads across the border of a container, to '{nodes[target].name}': left out"
                report(Problem(message, nodes[source].name, line=link.line, fatal=False))

    def _nested(self, home: Mapping[NodeId, NodeId | None]) -> None:
        """Every node must be inside something that is, in the end, inside nothing."""
        safe: set[NodeId] = set()
        for node in home:
            path: dict[NodeId, None] = {}
            at: NodeId | None = node
            while at is not None and at not in safe and at not in path:
                path[at] = None
                at = home[at]
            if at is not None and at not in safe:
                draft = self._nodes[at]
                self._report(Problem("the node is inside itself", draft.name, "parentId", draft.line))
            safe |= path.keys()

    def top(self) -> Level | None:
        """The top level from its start on; None if it has none or several."""
        nodes = self._inside[None]
        starts = [node for node in nodes if node.type == "start"]
        starts = starts or [node for node in nodes if node.type.startswith("trigger-")][:1]
        if len(starts) > 1:
            for node in starts[1:]:
                message = f"there is more than one start node: the first is in line {starts[0].line}"
                self._report(Problem(message, node.name, line=node.line))
        if not starts:
            self._report(Problem("there is no start node", field="workflow.graph.nodes"))
        if len(starts) != 1:
            self._acyclic(nodes, self._links[None])
            return None
        return self._level(None, starts[0])

    def body(self, container: Draft) -> Level | None:
        """What is inside a node; None if nothing is, or nothing begins it."""
        nodes = self._inside.get(container.id, [])
        named = identifier(container.data.get("start_node_id"))
        root = next((node for node in nodes if node.type in BODY_STARTS), None)
        root = root or next((node for node in nodes if node.id == named), None)
        return self._level(container.id, root) if root else None

    def _level(self, home: NodeId | None, root: Draft) -> Level:
        edges = self._links[home]
        out: defaultdict[NodeId, list[NodeId]] = defaultdict(list)
        for link in edges:
            out[link.edge.source].append(link.edge.target)
        reached = {root.id}
        stack = [root.id]
        while stack:
            for target in out[stack.pop()]:
                if target not in reached:
                    reached.add(target)
                    stack.append(target)
        for node in self._inside[home]:
            if node.id not in reached:
                message = "no edge leads here from the start: the node is left out"
                self._report(Problem(message, node.name, line=node.line, fatal=False))
        nodes = [node for node in self._inside[home] if node.id in reached]
        edges = [link for link in edges if link.edge.source in reached]
        self._acyclic(nodes, edges)
        return Level(nodes, edges, root)

    def _acyclic(self, nodes: Sequence[Draft], edges: Sequence[Link]) -> None:
        for found in cycles([node.id for node in nodes], [link.edge for link in edges]):
            first = self._nodes[found[0]]
            way = " -> ".join(f"'{self._nodes[id_].name}'" for id_ in [*found, found[0]])
            self._report(Problem(f"the edges go round in a circle: {way}", first.name, line=first.line))


def cycles(nodes: Sequence[NodeId], edges: Iterable[Edge]) -> list[list[NodeId]]:
    """Some cycles of a graph, `MAX_CYCLES` at most; none if and only if it has none."""
    out: defaultdict[NodeId, list[NodeId]] = defaultdict(list)
    for edge in edges:
        out[edge.source].append(edge.target)
    found: list[list[NodeId]] = []
    done: set[NodeId] = set()
    for start in nodes:
        if start in done:
            continue
        path: dict[NodeId, None] = {start: None}
        left: list[tuple[NodeId, Iterator[NodeId]]] = [(start, iter(out[start]))]
        while left:
            node, targets = left[-1]
            target = next(targets, None)
            if target is None:
                left.pop()
                del path[node]
                done.add(node)
            elif target in path:
                way = list(path)
                found.append(way[way.index(target) :])
                if len(found) == MAX_CYCLES:
                    return found
            elif target not in done:
                path[target] = None
                left.append((target, iter(out[target])))
    return found


def read_by(data: Mapping[str, Value]) -> Iterator[tuple[Selector, tuple[str | int, ...]]]:
    """(selector, path) of the values that a node's data plainly reads: `value_selector`, `variable_selector` and
    `{{#a.b#}}` in text."""
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
    draft: Draft, nodes: Mapping[NodeId, Draft], document: Document, declared: Mapping[str, Collection[str]], mode: str
) -> Iterator[Problem]:
    """What a node reads that does not exist; `declared` are the names of the file's variables by their scope."""
    told: set[Selector] = set()
    for selector, path in read_by(draft.data):
        scope = selector[0]
        if not scope or scope in nodes or selector in told:
            continue
        told.add(selector)
        lack = _lack(selector, declared, mode)
        if lack is not None:
            name, line = document.locate(draft.data, path)
            yield Problem(f"'{'.'.join(selector)}' is read, but {lack}", draft.name, name, line, fatal=False)


def _lack(selector: Selector, declared: Mapping[str, Collection[str]], mode: str) -> str | None:
    """Why there is nothing to read outside the nodes; None where there may be something."""
    scope, name = selector[0], selector[1] if len(selector) > 1 else ""
    if scope in declared:
        return None if name in declared[scope] else f"no variable '{name}' is declared"
    if scope == "sys":
        return f"an app of mode '{mode}' has none" if mode == "workflow" and name in _OF_CHATS else None
    return None if scope in _SCOPES else f"there is no node '{scope}'"
