"""Outputs that a workflow's run would put out twice: two end nodes, or one, that give one name.

Two ends on branches of which a run takes one never meet, and nothing is wrong with them; where one run may reach both,
it has only one value under the name.
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

_MOST_PAIRS = 200_000  # of nodes, or of outputs of one name, that are looked at; what has more of them is not judged


def doubled(graph: Graph, drafts: Mapping[NodeId, Draft], document: Document) -> Iterator[Problem]:
    """What lint says of names that several outputs of the top level have."""
    ends = [drafts[node.id] for node in graph.nodes.values() if node.traits.response == "outputs"]
    named: defaultdict[str, list[tuple[Draft, int]]] = defaultdict(list)
    for end in ends:
        for index, name in _outputs(end):
            named[name].append((end, index))
    if sum(len(outputs) ** 2 for outputs in named.values()) > 2 * _MOST_PAIRS:
        return
    shared = {
        (first.id, second.id)
        for outputs in named.values()
        for (first, _), (second, _) in combinations(outputs, 2)
        if first.id != second.id
    }
    together = _met(graph, shared) if shared else set[tuple[NodeId, NodeId]]()
    for name, outputs in named.items():
        for at, (end, index) in enumerate(outputs):
            others = [other for other, _ in outputs[:at] if other.id == end.id or (other.id, end.id) in together]
            if others:
                field, line = document.locate(end.data, ("outputs", index, "variable"))
                where = "stands twice" if others[0].id == end.id else f"is put out by '{others[0].name}' as well"
                message = f"the output '{name}' {where}: a run that reaches both has one value under that name"
                yield Problem(message, end.name, field, line, fatal=False)


def _outputs(end: Draft) -> Iterator[tuple[int, str]]:
    """(place, name) of each output."""
    outputs = end.data.get("outputs")
    for index, item in enumerate(cast("list[Value]", outputs) if isinstance(outputs, list) else []):
        name = (mapping(item) or {}).get("variable")
        if isinstance(name, str):
            yield index, name


def _met(graph: Graph, wanted: Collection[tuple[NodeId, NodeId]]) -> set[tuple[NodeId, NodeId]]:
    """The pairs of nodes of which one run may reach both: from the root lead ways to them that nowhere leave a node by
    two of its handles where a run takes one."""
    places = {node: place for place, node in enumerate(_sorted(graph))}
    order = {node: place if graph.edges_from.get(node) else len(places) + place for node, place in places.items()}
    pairs = {(graph.root, graph.root)}
    left = [(graph.root, graph.root)]
    while left:
        first, second = left.pop()
        for pair in _next(graph, order, first, second):
            if pair not in pairs:
                pairs.add(pair)
                left.append(pair)
        if len(pairs) > _MOST_PAIRS:
            return set()
    return {pair for pair in wanted if pair in pairs or pair[::-1] in pairs}


def _next(graph: Graph, order: Mapping[NodeId, int], first: NodeId, second: NodeId) -> Iterator[tuple[NodeId, NodeId]]:
    """Where two ways may be one step later. The one that is less far goes on: so both are at a node that they share at
    the same step, and leave it by the same handle."""
    if first != second:
        if order[first] > order[second]:
            first, second = second, first
        yield from ((edge.target, second) for edge in graph.edges_from.get(first, ()))
        return
    for one, other in combinations_with_replacement(graph.edges_from.get(first, ()), 2):
        if one.handle == other.handle:
            yield one.target, other.target


def _sorted(graph: Graph) -> list[NodeId]:
    """The nodes, each after all that lead to it."""
    missing = dict(graph.in_degree)
    ready = [node for node in graph.nodes if not missing.get(node)]
    found: list[NodeId] = []
    while ready:
        node = ready.pop()
        found.append(node)
        for edge in graph.edges_from.get(node, ()):
            missing[edge.target] -= 1
            if not missing[edge.target]:
                ready.append(edge.target)
    return found
