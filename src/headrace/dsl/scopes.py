"""Which nodes are on which level of a file's graph: the top one, or inside which container.

Facts (Dify 1.12): all edges are followed, from the start node and, for each round of a container, from the node that
begins it; what a node says of where it is (`parentId`, `iteration_id`, `loop_id`) is for the editor, and out of date in
nodes that were copied into a container or out of one. Here it decides in two cases only: which node begins a container
that does not name one, and where a node is that edges lead to from both sides of a border. (Dify never runs such a
node: one of its edges is never decided.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from headrace.dsl.check import Draft, Link, Report, identifier
from headrace.errors import Problem
from headrace.kernel.graph import Edge, NodeId

MAX_CYCLES = 10  # told; a tangle has more of them than anyone wants to read
Place = NodeId | None
"""A level by its container; None is the top level."""


@dataclass(frozen=True, slots=True)
class Level:
    """What is left of the top level, or of a container's body, once it is checked."""

    nodes: Sequence[Draft]
    links: Sequence[Link]
    root: Draft


class Levels:
    """The nodes and edges of a file, sorted into the top level and the bodies of containers."""

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
        self._root = self._start()
        if self._root is None:
            self._acyclic(list(nodes.values()), self._links)
        else:
            self._settle(self._root)

    def top(self) -> Level | None:
        """The top level from its start on; None if it has none or several."""
        return None if self._root is None else self._level(None, self._root)

    def body(self, container: Draft) -> Level | None:
        """What is inside a node; None if nothing is, or nothing begins it."""
        root = self._beginning(container)
        if root is None or self._homes.get(root.id) != container.id:
            return None
        return self._level(container.id, root)

    def border(self, reader: Draft, scope: NodeId) -> Draft | None:
        """The outermost container around a node that its reader is neither inside of nor itself; None if there is
        none, as where both are on one level."""
        around = {reader.id, *self._around(reader.id)}
        return next((self._nodes[id_] for id_ in reversed(self._around(scope)) if id_ not in around), None)

    def _around(self, node: NodeId) -> list[NodeId]:
        """The containers that a node is in, the innermost first."""
        found: list[NodeId] = []
        place = self._homes.get(node)
        while place is not None:
            found.append(place)
            place = self._homes[place]
        return found

    # --------------------------------------------------------------------------------------------- where nodes are

    def _start(self) -> Draft | None:
        """The node that begins the top level; what says that it is inside something begins it only for want of
        another."""
        starts = [node for node in self._nodes.values() if node.traits.starts_run]
        starts = [node for node in starts if self._said(node) is None] or starts
        starts = starts or [node for node in self._nodes.values() if node.type.startswith("trigger-")][:1]
        if not starts:
            self._report(Problem("there is no start node", field="workflow.graph.nodes"))
        for node in starts[1:]:
            message = f"there is more than one start node: the first is in line {starts[0].line}"
            self._report(Problem(message, node.name, line=node.line))
        return starts[0] if len(starts) == 1 else None

    def _said(self, node: Draft) -> Place:
        """The container that a node says it is in, if there is such a node."""
        return node.parent if node.parent in self._nodes else None

    def _beginning(self, container: Draft) -> Draft | None:
        """The node that begins a container: the one that it names, unless that says that it begins another one and
        the container has one of its own (as a copied container has)."""
        own = [node for node in self._nodes.values() if node.traits.starts_body and node.parent == container.id]
        named = self._nodes.get(identifier(container.data.get("start_node_id")) or "")
        if named is None or (own and self._said(named) not in (None, container.id)):
            return own[0] if own else None
        return named

    def _settle(self, root: Draft) -> None:
        """Finds the home of every node that is reached."""
        roots: dict[Place, NodeId] = {None: root.id}
        places: list[Place] = [None]  # in the order in which they are reached
        reached_from: defaultdict[NodeId, list[Place]] = defaultdict(list)
        for place in places:
            for id_ in self._reached(roots[place]):
                reached_from[id_].append(place)
                draft = self._nodes[id_]
                if id_ not in roots and draft.is_container and (begins := self._beginning(draft)) is not None:
                    roots[id_] = begins.id
                    places.append(id_)
        order = {place: index for index, place in enumerate(places)}
        begun = {root_id: place for place, root_id in reversed(roots.items())}
        for id_, candidates in reached_from.items():
            if id_ in order:  # a container is inside one that was reached before it, so that none is inside itself
                candidates = [place for place in candidates if order[place] < order[id_]]
            said = self._said(self._nodes[id_])
            begins = begun.get(id_)
            wanted = begins if id_ in begun and begins in candidates else said
            self._homes[id_] = wanted if wanted in candidates else candidates[0]
        for draft in self._nodes.values():
            if draft.id in self._homes:
                self._inside[self._homes[draft.id]].append(draft)
                self._misplaced(draft, self._homes[draft.id])
            elif self._said(draft) in roots or not self._is_inside(draft):
                self._left_out(draft)

    def _is_inside(self, draft: Draft) -> bool:
        """Whether a node says that it is inside a container: if that is left out, so is all that is in it."""
        said = self._said(draft)
        return said is not None and said != draft.id and self._nodes[said].is_container

    def _reached(self, root: NodeId) -> list[NodeId]:
        """What edges lead to from a node on."""
        reached = {root: None}
        stack = [root]
        while stack:
            for target in self._out.get(stack.pop(), ()):
                if target not in reached:
                    reached[target] = None
                    stack.append(target)
        return list(reached)

    def _misplaced(self, draft: Draft, home: Place) -> None:
        """Tells where a node runs that says it is somewhere else."""
        if draft.parent == home:
            return
        place = "outside" if home is None else f"inside '{self._nodes[home].name}'"
        if draft.parent is None:
            message = f"edges lead here from {place}, but the node does not say that it is there: it runs there"
        elif draft.parent not in self._nodes:
            message = f"the node is said to be inside '{draft.parent}', which does not exist: taken as {place}"
        else:
            said = self._nodes[draft.parent].name
            message = f"the node is said to be inside '{said}', but edges lead to it {place}: it runs there"
        self._report(Problem(message, draft.name, "parentId", draft.line, fatal=False))

    def _left_out(self, draft: Draft) -> None:
        message = "no edge leads here from the start: the node is left out"
        self._report(Problem(message, draft.name, line=draft.line, fatal=False))

    # ------------------------------------------------------------------------------------------------- one level

    def _level(self, place: Place, root: Draft) -> Level:
        links: list[Link] = []
        for link in self._links:
            source, target = link.edge.source, link.edge.target
            if source not in self._homes or self._homes[source] != place:
                continue
            if self._homes[target] == place:
                links.append(link)
                continue
            message = f"an edge leads across the border of a container, to '{self._nodes[target].name}': left out"
            self._report(Problem(message, self._nodes[source].name, line=link.line, fatal=False))
        out: defaultdict[NodeId, list[NodeId]] = defaultdict(list)
        for link in links:
            out[link.edge.source].append(link.edge.target)
        reached = {root.id}
        stack = [root.id]
        while stack:
            for target in out[stack.pop()]:
                if target not in reached:
                    reached.add(target)
                    stack.append(target)
        for node in self._inside[place]:
            if node.id not in reached:
                self._left_out(node)
        nodes = [node for node in self._inside[place] if node.id in reached]
        links = [link for link in links if link.edge.source in reached]
        self._acyclic(nodes, links)
        return Level(nodes, links, root)

    def _acyclic(self, nodes: Sequence[Draft], links: Sequence[Link]) -> None:
        for found in cycles([node.id for node in nodes], [link.edge for link in links]):
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
