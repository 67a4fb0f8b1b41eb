"""Assigns the nodes of a file to the top level of its graph, or to the container that they are in.

As in Dify 1.12, edges decide: they are followed from the start node and, inside a container, from its first node. The
parent that a node states (`parentId`, `iteration_id`, `loop_id`) is for the editor, and outdated in nodes that were
copied into or out of a container. It is used in two cases only: to find the first node of a container that does not
name it, and for a node with edges from both inside and outside. (Dify never runs such a node, because one of its edges
is never decided.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from headrace.dsl.check import Draft, Link, Report, identifier
from headrace.errors import Problem
from headrace.frozen import frozen
from headrace.kernel.graph import Edge, NodeId

MAX_CYCLES = 10  # reported
Place = NodeId | None
"""The container of a level; None for the top level."""


@frozen
class Level:
    """The reachable nodes of the top level or a container, and the edges between them."""

    nodes: Sequence[Draft]
    links: Sequence[Link]
    starts: Sequence[Draft]
    """Where a run of it may begin: one node, or several triggers."""


class Levels:
    """The nodes and edges of a file by level."""

    def __init__(
        self,
        nodes: Mapping[NodeId, Draft],
        links: Iterable[Link],
        report: Report,
    ) -> None:
        self._nodes = nodes
        self._links = list(links)
        self._report = report
        self._out: defaultdict[NodeId, list[NodeId]] = defaultdict(list)
        for link in self._links:
            self._out[link.edge.source].append(link.edge.target)
        self._homes: dict[NodeId, Place] = {}
        self._inside: defaultdict[Place, list[Draft]] = defaultdict(list)
        self._starts = self._top_starts()
        if self._starts:
            self._settle(self._starts)
        else:
            self._acyclic(list(nodes.values()), self._links)

    def top(self) -> Level | None:
        """The top level; None if it has no start, or more than one start node."""
        return self._level(None, self._starts) if self._starts else None

    def body(self, container: Draft) -> Level | None:
        """The level inside a container; None if it has no first node."""
        root = self._first_node(container)
        if root is None or self._homes.get(root.id) != container.id:
            return None
        return self._level(container.id, [root])

    def border(self, reader: Draft, scope: NodeId) -> Draft | None:
        """The outermost container around a node that its reader is not in; None if there is none, because both are on
        the same level."""
        around = {reader.id, *self._around(reader.id)}
        return next((self._nodes[id_] for id_ in reversed(self._around(scope)) if id_ not in around), None)

    def _around(self, node: NodeId) -> list[NodeId]:
        """The containers that a node is in, the innermost first."""
        containers: list[NodeId] = []
        place = self._homes.get(node)
        while place is not None:
            containers.append(place)
            place = self._homes[place]
        return containers

    # --------------------------------------------------------------------------------------------- where nodes are

    def _top_starts(self) -> Sequence[Draft]:
        """Where runs begin: the start node of the top level, if there is one, and the triggers; those with a parent
        only if there are no others. Empty if there is none, or more than one start node."""
        starts = [node for node in self._nodes.values() if node.traits.starts_run]
        starts = [node for node in starts if self._parent(node) is None] or starts
        if not starts:
            self._report(Problem("there is no start node", field="workflow.graph.nodes"))
        forms = [node for node in starts if not node.traits.triggers_run]
        for node in forms[1:]:
            message = f"there is more than one start node: the first is in line {forms[0].line}"
            self._report(Problem(message, node.name, line=node.line))
        if len(forms) > 1:
            return ()
        return sorted(starts, key=lambda node: node.traits.triggers_run)

    def _parent(self, node: Draft) -> Place:
        """The parent that a node states, if it exists."""
        return node.parent if node.parent in self._nodes else None

    def _first_node(self, container: Draft) -> Draft | None:
        """The first node inside a container: the one that it names, unless that has another parent and the container
        has a first node of its own (like a copied container)."""
        own = [node for node in self._nodes.values() if node.traits.starts_body and node.parent == container.id]
        start = self._nodes.get(identifier(container.data.get("start_node_id")) or "")
        if start is None or (own and self._parent(start) not in (None, container.id)):
            return own[0] if own else None
        return start

    def _settle(self, starts: Sequence[Draft]) -> None:
        """Finds the level of every node that is reached."""
        roots: dict[Place, Sequence[NodeId]] = {None: [start.id for start in starts]}
        places: list[Place] = [None]  # in the order in which they are reached
        reached_from: defaultdict[NodeId, list[Place]] = defaultdict(list)
        for place in places:
            for id_ in self._reached(roots[place]):
                reached_from[id_].append(place)
                draft = self._nodes[id_]
                if id_ not in roots and draft.is_container and (first := self._first_node(draft)) is not None:
                    roots[id_] = [first.id]
                    places.append(id_)
        order = {place: index for index, place in enumerate(places)}
        place_of_root = {root_id: place for place, root_ids in reversed(roots.items()) for root_id in root_ids}
        for id_, candidates in reached_from.items():
            if id_ in order:  # a container is in one that was reached before it, so that none is in itself
                candidates = [place for place in candidates if order[place] < order[id_]]
            parent = self._parent(self._nodes[id_])
            if id_ in place_of_root and place_of_root[id_] in candidates:
                parent = place_of_root[id_]
            self._homes[id_] = parent if parent in candidates else candidates[0]
        for draft in self._nodes.values():
            if draft.id in self._homes:
                self._inside[self._homes[draft.id]].append(draft)
                self._misplaced(draft, self._homes[draft.id])
            elif self._parent(draft) in roots or not self._is_inside(draft):
                self._unreachable(draft)

    def _is_inside(self, draft: Draft) -> bool:
        """Whether a node's parent is a container. If that is ignored, so are all nodes in it."""
        parent = self._parent(draft)
        return parent is not None and parent != draft.id and self._nodes[parent].is_container

    def _reached(self, roots: Sequence[NodeId]) -> list[NodeId]:
        """The nodes that edges lead to from these, directly or not."""
        reachable = dict.fromkeys(roots)
        stack = list(roots)
        while stack:
            for target in self._out.get(stack.pop(), ()):
                if target not in reachable:
                    reachable[target] = None
                    stack.append(target)
        return list(reachable)

    def _misplaced(self, draft: Draft, home: Place) -> None:
        """Reports a node that does not run where its parent says."""
        if draft.parent == home:
            return
        place = "outside" if home is None else f"inside '{self._nodes[home].name}'"
        if draft.parent is None:
            message = f"edges lead here from {place}, but the node has no such parent: it runs there"
        elif draft.parent not in self._nodes:
            message = f"the node's parent '{draft.parent}' does not exist: it is treated as {place}"
        else:
            parent = self._nodes[draft.parent].name
            message = f"the node's parent is '{parent}', but edges lead to it {place}: it runs there"
        self._report(Problem(message, draft.name, "parentId", draft.line, fatal=False))

    def _unreachable(self, draft: Draft) -> None:
        message = "the node cannot be reached from the start: it is ignored"
        self._report(Problem(message, draft.name, line=draft.line, fatal=False))

    # ------------------------------------------------------------------------------------------------- one level

    def _level(self, place: Place, starts: Sequence[Draft]) -> Level:
        reachable = {start.id for start in starts}
        links: list[Link] = []
        for link in self._links:
            source, target = link.edge.source, link.edge.target
            if source not in self._homes or self._homes[source] != place:
                continue
            if self._homes[target] == place and (target not in reachable or len(reachable) == 1):
                links.append(link)
                continue
            name = self._nodes[target].name
            where = "leads to the start" if target in reachable else "crosses the border of a container, to"
            message = f"an edge {where} '{name}': it is ignored"
            self._report(Problem(message, self._nodes[source].name, line=link.line, fatal=False))
        out: defaultdict[NodeId, list[NodeId]] = defaultdict(list)
        for link in links:
            out[link.edge.source].append(link.edge.target)
        stack = list(reachable)
        while stack:
            for target in out[stack.pop()]:
                if target not in reachable:
                    reachable.add(target)
                    stack.append(target)
        for node in self._inside[place]:
            if node.id not in reachable:
                self._unreachable(node)
        nodes = [node for node in self._inside[place] if node.id in reachable]
        links = [link for link in links if link.edge.source in reachable]
        self._acyclic(nodes, links)
        return Level(nodes, links, starts)

    def _acyclic(self, nodes: Sequence[Draft], links: Sequence[Link]) -> None:
        for cycle in cycles([node.id for node in nodes], [link.edge for link in links]):
            first = self._nodes[cycle[0]]
            path = " -> ".join(f"'{self._nodes[id_].name}'" for id_ in [*cycle, cycle[0]])
            self._report(Problem(f"the edges form a cycle: {path}", first.name, line=first.line))


def cycles(nodes: Sequence[NodeId], edges: Iterable[Edge]) -> list[list[NodeId]]:
    """Some cycles of a graph, at most `MAX_CYCLES`; empty if and only if it has none."""
    out: defaultdict[NodeId, list[NodeId]] = defaultdict(list)
    for edge in edges:
        out[edge.source].append(edge.target)
    found_cycles: list[list[NodeId]] = []
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
                nodes_on_path = list(path)
                found_cycles.append(nodes_on_path[nodes_on_path.index(target) :])
                if len(found_cycles) == MAX_CYCLES:
                    return found_cycles
            elif target not in done:
                path[target] = None
                left.append((target, iter(out[target])))
    return found_cycles
