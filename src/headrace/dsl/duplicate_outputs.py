"""Outputs of end nodes with the same name.

If the ends are on alternative branches, nothing is wrong; if one run may reach both, it has only one value of the name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations, combinations_with_replacement
from typing import cast

from headrace.dsl.check import Draft, mapping
from headrace.dsl.yaml_reader import Document
from headrace.errors import Problem
from headrace.kernel.graph import Graph, NodeId
from headrace.values import Value

_MOST_PAIRS = 200_000  # of nodes, or of outputs with one name; larger graphs are not checked


def duplicates(graph: Graph, drafts: Mapping[NodeId, Draft], document: Document) -> Iterator[Problem]:
    """A problem for each output of the top level whose name another one has, too."""
    ends = [drafts[node.id] for node in graph.nodes.values() if node.traits.response == "outputs"]
    ends_by_name: defaultdict[str, list[tuple[Draft, int]]] = defaultdict(list)
    for end in ends:
        for index, name in _outputs(end):
            ends_by_name[name].append((end, index))
    if sum(len(outputs) ** 2 for outputs in ends_by_name.values()) > 2 * _MOST_PAIRS:
        return
    shared_names = {
        (first.id, second.id)
        for outputs in ends_by_name.values()
        for (first, _), (second, _) in combinations(outputs, 2)
        if first.id != second.id
    }
    together = _reachable_together(graph, shared_names) if shared_names else set[tuple[NodeId, NodeId]]()
    for name, outputs in ends_by_name.items():
        for at, (end, index) in enumerate(outputs):
            others = [other for other, _ in outputs[:at] if other.id == end.id or (other.id, end.id) in together]
            if others:
                field, line = document.locate(end.data, ("outputs", index, "variable"))
                where = "is defined twice" if others[0].id == end.id else f"is also defined by '{others[0].name}'"
                message = f"the output '{name}' {where}: a run that reaches both has only one value of that name"
                yield Problem(message, end.name, field, line, fatal=False)


def _outputs(end: Draft) -> Iterator[tuple[int, str]]:
    """(index, name) of each output."""
    outputs = end.data.get("outputs")
    for index, item in enumerate(cast("list[Value]", outputs) if isinstance(outputs, list) else []):
        name = (mapping(item) or {}).get("variable")
        if isinstance(name, str):
            yield index, name


def _reachable_together(graph: Graph, wanted_pairs: Collection[tuple[NodeId, NodeId]]) -> set[tuple[NodeId, NodeId]]:
    """The pairs of nodes that one run may reach: by paths from the root that nowhere leave a node by two handles, of
    which a run takes only one."""
    positions = {node: position for position, node in enumerate(_sorted(graph))}
    order = {
        node: position if graph.edges_from.get(node) else len(positions) + position
        for node, position in positions.items()
    }
    stack = [(start, start) for start in graph.starts]
    pairs = set(stack)
    while stack:
        first, second = stack.pop()
        for pair in _next(graph, order, first, second):
            if pair not in pairs:
                pairs.add(pair)
                stack.append(pair)
        if len(pairs) > _MOST_PAIRS:
            return set()
    return {pair for pair in wanted_pairs if pair in pairs or pair[::-1] in pairs}


def _next(graph: Graph, order: Mapping[NodeId, int], first: NodeId, second: NodeId) -> Iterator[tuple[NodeId, NodeId]]:
    """Where two paths may be one step later. The one that is behind advances, so that both reach a shared node at the
    same step, and leave it by the same handle."""
    if first != second:
        if order[first] > order[second]:
            first, second = second, first
        yield from ((edge.target, second) for edge in graph.edges_from.get(first, ()))
        return
    for one, other in combinations_with_replacement(graph.edges_from.get(first, ()), 2):
        if one.handle == other.handle:
            yield one.target, other.target


def _sorted(graph: Graph) -> list[NodeId]:
    """The nodes in topological order."""
    missing = dict(graph.in_degree)
    ready = [node for node in graph.nodes if not missing.get(node)]
    nodes: list[NodeId] = []
    while ready:
        node = ready.pop()
        nodes.append(node)
        for edge in graph.edges_from.get(node, ()):
            missing[edge.target] -= 1
            if not missing[edge.target]:
                ready.append(edge.target)
    return nodes
