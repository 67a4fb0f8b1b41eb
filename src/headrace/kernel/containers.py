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
from headrace.kernel.graph import Graph, NodeId, Path, round_path
from headrace.kernel.summary import UsageTotal
from headrace.kernel.variables import Variables
from headrace.values import Value


class ContainerResult(NamedTuple):
    """What became of a container: its outputs, and what else is to be said of it."""

    outputs: Mapping[str, Value]
    process: Mapping[str, Value]


class Container(Protocol):
    """The pure questions that a container node answers. `inputs` are always those that `begin` gave."""

    @property
    def max_parallel(self) -> int:
        """How many rounds may be under way at the same time."""
        ...

    @property
    def continue_on_error(self) -> bool:
        """Whether a round that fails leaves the others alone."""
        ...

    @property
    def shares_scopes(self) -> bool:
        """Whether its rounds have the variables around it for their own: what nodes inside put out stays until the next
        round begins, and after the last one. Else each round has some of its own, in front of those around."""
        ...

    def prepare(self, node: NodeId, variables: Variables) -> Mapping[str, Value]:
        """What it works on; `node` is its id. NodeError where that is not what it should be."""
        ...

    def max_rounds(self, inputs: Mapping[str, Value]) -> int:
        """How many rounds there are, at most."""
        ...

    def shared_variables(self, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
        """Variables under the container's id that all rounds share, and may assign."""
        ...

    def round_variables(self, inputs: Mapping[str, Value], index: int) -> Mapping[str, Value]:
        """Variables under the container's id that one round sees."""
        ...

    def is_done(self, variables: Variables) -> bool:
        """Whether no further round is wanted: asked before the first, and after each."""
        ...

    def round_result(self, run: ContainerRun, variables: Variables) -> Value:
        """What is kept of a round that ended well."""
        ...

    def result(self, run: ContainerRun) -> ContainerResult: ...

    def failure_message(self, index: int, error: str) -> str:
        """How a round's failure is told as the container's."""
        ...


class ContainerBody(NamedTuple):
    """What is inside a container node."""

    graph: Graph
    container: Container


def round_scopes(
    body: ContainerBody, outer: MutableMapping[str, Mapping[str, Value]], node: NodeId, variables: Mapping[str, Value]
) -> MutableMapping[str, Mapping[str, Value]]:
    """The variables that a round of the container `node` begins with, over those around it; `seen` is what it sees
    under the container's id."""
    if not body.container.shares_scopes:
        return ChainMap({node: variables} if variables else {}, outer)
    for id_ in body.graph.nodes_in_scope:
        outer.pop(id_, None)
    if variables:
        outer[node] = {**outer.get(node, {}), **variables}
    return outer


class GraphInstance:
    """One graph of a run at work: the top one, or that of a round.

    `alive`: how many of its nodes are ready, to be skipped, or under way. `dead`: nothing in it is to start any more.
    """

    __slots__ = (
        "cancelled",
        "container_run",
        "failure",
        "graph",
        "index",
        "open_nodes",
        "prefix",
        "reached_nodes",
        "scopes",
        "undecided_edges",
        "variables",
    )

    def __init__(
        self,
        graph: Graph,
        container_run: ContainerRun | None = None,
        index: int = 0,
        round_variables: Mapping[str, Value] | None = None,
    ) -> None:
        self.graph = graph
        self.container_run = container_run
        self.index = index
        self.prefix: Path = round_path(container_run.path, index) if container_run else ""
        self.scopes: MutableMapping[str, Mapping[str, Value]] = (
            round_scopes(container_run.body, container_run.parent.scopes, container_run.node, round_variables or {})
            if container_run
            else {}
        )
        self.variables = Variables(self.scopes)
        self.open_nodes = 0
        self.cancelled = False
        self.failure: NodeFailed | None = None
        self.undecided_edges: dict[NodeId, int] = {}  # how many edges a node still waits for, once one has been decided
        self.reached_nodes: set[NodeId] = set()  # nodes that an edge leads to


class ContainerRun:
    """A container under way."""

    __slots__ = (
        "active_rounds",
        "body",
        "failed_rounds",
        "failure",
        "inputs",
        "is_done",
        "loop_ended",
        "max_rounds",
        "node",
        "parent",
        "path",
        "results",
        "rounds_started",
        "usage",
    )

    def __init__(
        self, path: Path, node: NodeId, parent: GraphInstance, body: ContainerBody, inputs: Mapping[str, Value]
    ) -> None:
        self.path = path
        self.node = node
        self.parent = parent
        self.body = body
        self.inputs = inputs
        self.max_rounds = body.container.max_rounds(inputs)
        self.rounds_started = 0  # opened so far
        self.active_rounds: dict[int, GraphInstance] = {}
        self.results: dict[int, Value] = {}  # of the rounds that ended well
        self.failed_rounds: set[int] = set()
        self.failure: tuple[int, NodeFailed] | None = None  # one that ends the container
        self.is_done = False
        self.loop_ended = False  # a loop's end was reached
        self.usage = UsageTotal()  # of the nodes inside

    @property
    def is_closing(self) -> bool:
        """No further round is to be opened."""
        return self.is_done or self.failure is not None or self.rounds_started >= self.max_rounds

    @property
    def is_due(self) -> bool:
        """There is something to be done about it now: open rounds, or end it."""
        return not self.active_rounds if self.is_closing else len(self.active_rounds) < self.body.container.max_parallel

    def shared_variables(self) -> Mapping[str, Value]:
        """The variables that its rounds share, as they are now."""
        return self.parent.scopes.get(self.node, {})
