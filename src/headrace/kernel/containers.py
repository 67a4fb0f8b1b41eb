"""Graphs within graphs: the containers of a run (iteration, loop), and the graph instances of their rounds.

A container does no work of its own. Its methods are pure functions (its inputs, the variables of a round, whether it is
done, its result), and `plan` starts the rounds. The paths of the nodes in round 3 of the container `it` begin with
`it[3]/`. A graph instance is deleted when its round ends; only the result of the round is kept.
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
    """The outputs of a container, and the process data for its trace."""

    outputs: Mapping[str, Value]
    process: Mapping[str, Value]


class Container(Protocol):
    """The pure functions of a container node. `inputs` are always those that `prepare` returned."""

    @property
    def max_parallel(self) -> int:
        """How many rounds may run at the same time."""
        ...

    @property
    def continue_on_error(self) -> bool:
        """Whether the other rounds continue after one has failed."""
        ...

    @property
    def shares_scopes(self) -> bool:
        """Whether its rounds use the scopes around it: the outputs of nodes inside remain until the next round starts,
        and after the last one. Otherwise each round has scopes of its own, in front of the outer ones."""
        ...

    def prepare(self, node: NodeId, variables: Variables) -> Mapping[str, Value]:
        """Its inputs; `node` is its id. NodeError if they are not valid."""
        ...

    def max_rounds(self, inputs: Mapping[str, Value]) -> int:
        """The maximum number of rounds."""
        ...

    def shared_variables(self, inputs: Mapping[str, Value]) -> Mapping[str, Value]:
        """Variables under the container's id that all rounds share and may assign."""
        ...

    def round_variables(self, inputs: Mapping[str, Value], index: int) -> Mapping[str, Value]:
        """Variables under the container's id of one round."""
        ...

    def is_done(self, variables: Variables) -> bool:
        """Whether no further round is to start; evaluated before the first round and after each one."""
        ...

    def round_result(self, run: ContainerRun, variables: Variables) -> Value:
        """What is kept of a round that succeeded."""
        ...

    def result(self, run: ContainerRun) -> ContainerResult: ...

    def failure_message(self, index: int, error: str) -> str:
        """The error message of the container for a failed round."""
        ...


class ContainerBody(NamedTuple):
    """The graph inside a container node, and the container itself."""

    graph: Graph
    container: Container


def round_scopes(
    body: ContainerBody, outer: MutableMapping[str, Mapping[str, Value]], node: NodeId, variables: Mapping[str, Value]
) -> MutableMapping[str, Mapping[str, Value]]:
    """The scopes of a new round of the container `node`, over the outer ones; `variables` are those of the round under
    the container's id."""
    if not body.container.shares_scopes:
        return ChainMap({node: variables} if variables else {}, outer)
    for id_ in body.graph.nodes_in_scope:
        outer.pop(id_, None)
    if variables:
        outer[node] = {**outer.get(node, {}), **variables}
    return outer


class GraphInstance:
    """A running graph: the top-level one, or that of a round.

    `open_nodes`: how many of its nodes are ready, to be skipped, or running. `cancelled`: none of its nodes may start.
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
        self.undecided_edges: dict[NodeId, int] = {}  # per node, once one of its edges is decided
        self.reached_nodes: set[NodeId] = set()  # nodes that a taken edge leads to


class ContainerRun:
    """A running container."""

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
        self.rounds_started = 0
        self.active_rounds: dict[int, GraphInstance] = {}
        self.results: dict[int, Value] = {}  # of the rounds that succeeded
        self.failed_rounds: set[int] = set()
        self.failure: tuple[int, NodeFailed] | None = None  # the round and the failure that end the container
        self.is_done = False
        self.loop_ended = False  # a loop-end node was reached
        self.usage = UsageTotal()  # of the nodes inside

    @property
    def is_closing(self) -> bool:
        """Whether no further round is to start."""
        return self.is_done or self.failure is not None or self.rounds_started >= self.max_rounds

    @property
    def is_due(self) -> bool:
        """Whether it has a step to take now: start rounds, or end."""
        return not self.active_rounds if self.is_closing else len(self.active_rounds) < self.body.container.max_parallel

    def shared_variables(self) -> Mapping[str, Value]:
        """The current values of the variables that its rounds share."""
        return self.parent.scopes.get(self.node, {})
