"""Graphs within graphs: the containers of a run (iteration, loop), and the graph instances of their rounds.

A container does no work of its own. Its methods are pure functions (its inputs, the variables of a round, whether it is
done, its result), and `plan` starts the rounds. The paths of the nodes in round 3 of the container `it` begin with
`it[3]/`. A graph instance is deleted when its round ends; only the result of the round is kept.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from headrace.frozen import new_dict, new_set
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

    def result(self, run: ContainerRun) -> ContainerResult:
        """Its result, from those of its rounds."""
        ...

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


@dataclass(slots=True, eq=False)
class GraphInstance:
    """A running graph: the top-level one, or that of a round (`container_run`, `index`).

    `open_nodes`: how many of its nodes are ready, to be skipped, or running. `cancelled`: none of its nodes may start.
    `undecided_edges`: how many edges to a node are undecided, once one is decided. `reached_nodes`: the nodes that a
    taken edge leads to.
    """

    graph: Graph
    scopes: MutableMapping[str, Mapping[str, Value]]
    variables: Variables
    prefix: Path = ""
    container_run: ContainerRun | None = None
    index: int = 0
    open_nodes: int = 0
    cancelled: bool = False
    failure: NodeFailed | None = None
    undecided_edges: dict[NodeId, int] = field(default_factory=new_dict)
    reached_nodes: set[NodeId] = field(default_factory=new_set)

    @classmethod
    def of_round(cls, run: ContainerRun, index: int, variables: Mapping[str, Value]) -> GraphInstance:
        scopes = round_scopes(run.body, run.parent.scopes, run.node, variables)
        return cls(run.body.graph, scopes, Variables(scopes), round_path(run.path, index), run, index)


@dataclass(slots=True, eq=False)
class ContainerRun:
    """A running container, inside the graph instance `parent`.

    `results` are those of the rounds that succeeded. `failure`: the round and the failure that end the container.
    `loop_ended`: a loop-end node was reached. `usage` is that of the nodes inside.
    """

    path: Path
    node: NodeId
    parent: GraphInstance
    body: ContainerBody
    inputs: Mapping[str, Value]
    max_rounds: int
    rounds_started: int = 0
    active_rounds: dict[int, GraphInstance] = field(default_factory=new_dict)
    results: dict[int, Value] = field(default_factory=new_dict)
    failed_rounds: set[int] = field(default_factory=new_set)
    failure: tuple[int, NodeFailed] | None = None
    is_done: bool = False
    loop_ended: bool = False
    usage: UsageTotal = field(default_factory=UsageTotal)

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
