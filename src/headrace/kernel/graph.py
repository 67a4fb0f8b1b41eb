"""The graph of a workflow: its nodes, the edges between them, and the templates of its response nodes.

A graph is made and checked by `dsl.load`, and never changes. A handle is a named exit of a node: `source` for most, the
id of a case for if-else, `fail-branch` for a handled failure.

A path names a node in a run. That of a top-level node is its id; `it[3]/llm` is the node `llm` in round 3 of the
container `it`; containers nest: `it[3]/loop[0]/llm`. A path that ends in `]/` (`it[3]/`) names the round itself and is
the prefix of all paths in it. No other module parses or builds paths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

from headrace.frozen import frozen
from headrace.values import Selector, Value

if TYPE_CHECKING:
    from headrace.kernel.containers import ContainerBody

NodeId: TypeAlias = str
Path: TypeAlias = str

ROUND_END = "]/"
"""The end of the part of a path that names a round; no node id contains it (see `dsl.check`)."""


def is_top_level(path: Path) -> bool:
    return ROUND_END not in path


def split(path: Path) -> tuple[Path, NodeId]:
    """(the round that the node is in, the node's id); the round is empty at the top level."""
    round_, end, node = path.rpartition(ROUND_END)
    return round_ + end, node


def node_of(path: Path) -> NodeId:
    """The id of the node that a path ends with."""
    return path.rpartition(ROUND_END)[2]


def round_path(container: Path, index: int) -> Path:
    """The path of a container's round."""
    return f"{container}[{index}{ROUND_END}"


def attempt_key(run: str, path: Path, failures: int) -> str:
    """The idempotency key of an attempt of a node: the same when it is repeated after a crash."""
    return f"{run}/{path}/{failures}"


def rounds(path: Path) -> list[tuple[Path, int]]:
    """The rounds around a path, as (container, index), the outermost first."""
    result: list[tuple[Path, int]] = []
    end = path.find(ROUND_END)
    while end >= 0:
        begin = path.rindex("[", 0, end)
        result.append((path[:begin], int(path[begin + 1 : end])))
        end = path.find(ROUND_END, end + 1)
    return result


def containers(path: Path) -> list[Path]:
    """The containers around a path, the outermost first."""
    return [container for container, _ in rounds(path)]


def is_inside(path: Path, container: Path) -> bool:
    """Whether a path is inside a round of this container."""
    return path.startswith(f"{container}[")


Piece: TypeAlias = str | Selector
"""A piece of a response: literal text, or the selector of a value."""

SOURCE = "source"
FAIL_BRANCH = "fail-branch"
DEFAULT_VALUE = "default-value"


@frozen
class Retry:
    """How often a failed attempt is followed by another (`limit`), and after how many seconds (`interval`)."""

    limit: int
    interval: float


@frozen
class Traits:
    """What a node type is to the rest of the system, which knows no node type by its name."""

    starts_run: bool = False
    """A run begins here, with its inputs."""
    triggers_run: bool = False
    """A run that begins here is started by an event, not by a caller. A graph may have several such nodes."""
    starts_body: bool = False
    """It marks where the graph inside a container begins. It is passed over, not run."""
    loop: bool = False
    """A container that repeats its graph until a condition holds."""
    ends_loop: bool = False
    """The innermost loop around it starts no further round."""
    response: Literal["answer", "outputs"] | None = None
    """It responds to the caller: with the text of a chat's answer, or with outputs of the run."""
    calls_model: bool = False
    """It calls a language model."""
    generates: bool = False
    """Its text is what a model wrote, so the files among its outputs are attached to a chat's answer."""
    calls_service: bool = False
    """It calls another service."""
    cites: bool = False
    """Its outputs have passages for a chat's answer to cite."""


NO_TRAITS = Traits()


@frozen
class NodeSpec:
    """A node as the file has it.

    `config` is its data, as written; `parent` the container it is in; `branching`: it chooses among its handles,
    others leave by every edge; `strategy`: None (a failure ends the run), fail-branch or default-value with `defaults`;
    `writes`: variables of other scopes that it assigns; `traits` are those of its type; `metadata` is part of what is
    shown of each of its executions.
    """

    id: NodeId
    type: str
    title: str = ""
    config: Mapping[str, Value] = field(default_factory=dict[str, Value])
    parent: NodeId | None = None
    branching: bool = False
    retry: Retry | None = None
    strategy: str | None = None
    defaults: Mapping[str, Value] = field(default_factory=dict[str, Value])
    assigns: frozenset[Selector] = frozenset()
    traits: Traits = NO_TRAITS
    metadata: Mapping[str, Value] = field(default_factory=dict[str, Value])


@frozen
class Edge:
    source: NodeId
    target: NodeId
    handle: str = SOURCE


class Graph:
    """The nodes of one level, in the file's order, and their edges; `root` is the first node to run.

    `responses`: the template of each response node (end, answer), in pieces.
    `bodies`: the graph inside each container node.
    `starts`: all nodes at which a run may begin, if there are others than the root: a run begins at one of them.
    """

    def __init__(
        self,
        nodes: Sequence[NodeSpec],
        edges: Sequence[Edge],
        root: NodeId,
        responses: Mapping[NodeId, Sequence[Piece]] | None = None,
        bodies: Mapping[NodeId, ContainerBody] | None = None,
        starts: Sequence[NodeId] = (),
    ) -> None:
        self.nodes: dict[NodeId, NodeSpec] = {node.id: node for node in nodes}
        self.edges = tuple(edges)
        self.root = root
        self.starts = tuple(starts) or (root,)
        self.responses = dict(responses or {})
        self.bodies = dict(bodies or {})
        edges_from: defaultdict[NodeId, list[Edge]] = defaultdict(list)
        in_degree: defaultdict[NodeId, int] = defaultdict(int)
        for edge in self.edges:
            edges_from[edge.source].append(edge)
            in_degree[edge.target] += 1
        self.edges_from: Mapping[NodeId, Sequence[Edge]] = edges_from
        self.in_degree: Mapping[NodeId, int] = in_degree

    def all_nodes(self) -> Iterator[NodeSpec]:
        """The nodes of this graph, then those inside its containers."""
        yield from self.nodes.values()
        for body in self.bodies.values():
            yield from body.graph.all_nodes()

    def resolve(self, path: Path) -> tuple[Graph, NodeId]:
        """The graph that a path is in, and the id of its node there."""
        if is_top_level(path):
            return self, path
        graph = self
        for container, _ in rounds(path):
            graph = graph.bodies[node_of(container)].graph
        return graph, node_of(path)

    def spec_of(self, path: Path) -> NodeSpec:
        """The node that a path names."""
        graph, node = self.resolve(path)
        return graph.nodes[node]

    def is_container(self, path: Path) -> bool:
        """Whether a path names a container. Its usage is the sum of the usage inside."""
        graph, node = self.resolve(path)
        return node in graph.bodies

    def edges_taken(self, node: NodeId, handle: str) -> tuple[Sequence[Edge], Sequence[Edge]]:
        """(taken, skipped) edges of a node that ended with a handle."""
        edges = self.edges_from.get(node, ())
        spec = self.nodes[node]
        if not spec.branching and spec.strategy != FAIL_BRANCH:
            return edges, ()
        matching = [edge for edge in edges if edge.handle == handle]
        return matching, [edge for edge in edges if edge.handle != handle]

    def store_outputs(
        self, scopes: MutableMapping[str, Mapping[str, Value]], node: NodeId, outputs: Mapping[str, Value]
    ) -> None:
        """Stores the outputs of a node in its scope. Those of a container are added to the scope: the variables of a
        loop remain after it, even if it has no round."""
        scopes[node] = {**scopes.get(node, {}), **outputs} if node in self.bodies else outputs

    @cached_property
    def nodes_in_scope(self) -> frozenset[NodeId]:
        """The nodes whose outputs are in the scopes of this graph: its own, and those inside its loops."""
        inside = (body.graph.nodes_in_scope for body in self.bodies.values() if body.container.shares_scopes)
        return frozenset(self.nodes).union(*inside)

    @cached_property
    def streamed_scopes(self) -> frozenset[str]:
        """The scopes of the streamed selectors here and inside."""
        inside = (body.graph.streamed_scopes for body in self.bodies.values())
        return frozenset(selector[0] for selector in self.streamed_selectors).union(*inside)

    @cached_property
    def has_answer(self) -> bool:
        """Whether there is an answer node here or inside, so that the response of a run is its answer."""
        own = any(self.nodes[id_].traits.response == "answer" for id_ in self.responses)
        return own or any(body.graph.has_answer for body in self.bodies.values())

    @cached_property
    def streamed_selectors(self) -> frozenset[Selector]:
        """The selectors in the responses: only their text is streamed."""
        return frozenset(piece for pieces in self.responses.values() for piece in pieces if not isinstance(piece, str))

    @cached_property
    def reasoning_nodes(self) -> frozenset[NodeId]:
        """The nodes whose reasoning is streamed: those whose text or reasoning is in a response."""
        return frozenset(
            piece[0] for piece in self.streamed_selectors if piece[1:2] in (("text",), ("reasoning_content",))
        )

    @cached_property
    def response_nodes(self) -> frozenset[NodeId]:
        """The response nodes, and the containers with response nodes inside."""
        return frozenset(self.responses).union(id_ for id_, body in self.bodies.items() if body.graph.response_nodes)

    @cached_property
    def assigning_nodes(self) -> frozenset[NodeId]:
        """The nodes that assign a variable of a response: the response waits until they have ended."""
        return frozenset(id_ for id_, spec in self.nodes.items() if spec.assigns & self.streamed_selectors)

    @cached_property
    def choices(self) -> frozenset[NodeId]:
        """The nodes that decide which response nodes are reached, or what these say: see `graph_response`."""
        branching = (id_ for id_, spec in self.nodes.items() if spec.branching or spec.strategy == FAIL_BRANCH)
        return self.assigning_nodes.union(branching, self.bodies)
