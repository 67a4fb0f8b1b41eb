"""Graphs within graphs: the levels of a run, and the containers (iteration, loop) that open them round after round.

A container does no work of its own. It answers pure questions (what it begins with, what a round sees, whether another
round is wanted, what is collected), and `plan` opens the rounds. What runs in round 3 of the container `it` has paths
that begin with `it[3]/`. A level is forgotten when its round is over: only what the container kept of it stays.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple, Protocol

from headrace.kernel.events import NodeFailed
from headrace.kernel.graph import Graph
from headrace.kernel.path import NodeId, Path, round_path
from headrace.kernel.usage import UsageTotal
from headrace.kernel.variables import Variables
from headrace.values import Value


class Collected(NamedTuple):
    """What became of a container: its outputs, and what else is to be said of it."""

    outputs: Mapping[str, Value]
    process: Mapping[str, Value]


class Container(Protocol):
    """The pure questions that a container node answers. `inputs` are always those that `begin` gave."""

    @property
    def at_once(self) -> int:
        """How many rounds may be under way at the same time."""
        ...

    @property
    def tolerant(self) -> bool:
        """Whether a round that fails leaves the others alone."""
        ...

    @property
    def shares_scopes(self) -> bool:
        """Whether its rounds have the variables around it for their own: what nodes inside put out stays until the next
        round begins, and after the last one. Else each round has some of its own, in front of those around."""
        ...

    def begin(self, node: NodeId, variables: Variables) -> Mapping[str, Value]:
        """What it works on; `node` is its id. NodeError where that is not what it should be."""
        ...

    def count(self, inputs: Mapping[str, Value]) -> int:
        """How many rounds there are, at most."""
        ...

    def scope(self, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
        """Variables under the container's id that all rounds share, and may assign."""
        ...

    def seen(self, inputs: Mapping[str, Value], index: int) -> Mapping[str, Value]:
        """Variables under the container's id that one round sees."""
        ...

    def over(self, variables: Variables) -> bool:
        """Whether no further round is wanted: asked before the first, and after each."""
        ...

    def kept(self, opened: Opened, variables: Variables) -> Value:
        """What is kept of a round that ended well."""
        ...

    def collect(self, opened: Opened) -> Collected: ...

    def failure(self, index: int, error: str) -> str:
        """How a round's failure is told as the container's."""
        ...


class Body(NamedTuple):
    """What is inside a container node."""

    graph: Graph
    container: Container


def round_scopes(
    body: Body, around: MutableMapping[str, Mapping[str, Value]], node: NodeId, seen: Mapping[str, Value]
) -> MutableMapping[str, Mapping[str, Value]]:
    """The variables that a round of the container `node` begins with, over those around it; `seen` is what it sees
    under the container's id."""
    if not body.container.shares_scopes:
        return ChainMap({node: seen} if seen else {}, around)
    for id_ in body.graph.sharing:
        around.pop(id_, None)
    if seen:
        around[node] = {**around.get(node, {}), **seen}
    return around


class Level:
    """One graph of a run at work: the top one, or that of a round.

    `alive`: how many of its nodes are ready, to be skipped, or under way. `dead`: nothing in it is to start any more.
    """

    __slots__ = (
        "alive",
        "dead",
        "failure",
        "graph",
        "index",
        "opened",
        "prefix",
        "scopes",
        "taken",
        "variables",
        "waiting",
    )

    def __init__(
        self, graph: Graph, opened: Opened | None = None, index: int = 0, seen: Mapping[str, Value] | None = None
    ) -> None:
        self.graph = graph
        self.opened = opened
        self.index = index
        self.prefix: Path = round_path(opened.path, index) if opened else ""
        self.scopes: MutableMapping[str, Mapping[str, Value]] = (
            round_scopes(opened.body, opened.level.scopes, opened.node, seen or {}) if opened else {}
        )
        self.variables = Variables(self.scopes)
        self.alive = 0
        self.dead = False
        self.failure: NodeFailed | None = None
        self.waiting: dict[NodeId, int] = {}  # how many edges a node still waits for, once one has been decided
        self.taken: set[NodeId] = set()  # nodes that an edge leads to


class Opened:
    """A container under way."""

    __slots__ = (
        "active",
        "body",
        "broken",
        "count",
        "failed",
        "failure",
        "inputs",
        "kept",
        "level",
        "node",
        "over",
        "path",
        "rounds",
        "usage",
    )

    def __init__(self, path: Path, node: NodeId, level: Level, body: Body, inputs: Mapping[str, Value]) -> None:
        self.path = path
        self.node = node
        self.level = level
        self.body = body
        self.inputs = inputs
        self.count = body.container.count(inputs)
        self.rounds = 0  # opened so far
        self.active: dict[int, Level] = {}
        self.kept: dict[int, Value] = {}  # of the rounds that ended well
        self.failed: set[int] = set()
        self.failure: tuple[int, NodeFailed] | None = None  # one that ends the container
        self.over = False
        self.broken = False  # a loop's end was reached
        self.usage = UsageTotal()  # of the nodes inside

    @property
    def closing(self) -> bool:
        """No further round is to be opened."""
        return self.over or self.failure is not None or self.rounds >= self.count

    @property
    def due(self) -> bool:
        """There is something to be done about it now: open rounds, or end it."""
        return not self.active if self.closing else len(self.active) < self.body.container.at_once

    def scope(self) -> Mapping[str, Value]:
        """The variables that its rounds share, as they are now."""
        return self.level.scopes.get(self.node, {})
