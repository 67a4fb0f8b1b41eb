"""What a run has put out, folded from its events.

Facts (Dify 1.12): what a response node puts out takes the place of what another has put out under the same name,
but for `answer`: that is put together. Dify runs the nodes of a graph of fewer than ten one after the other, in the
order in which they became ready; so the value of a name that several End nodes have is that of the one that comes last
in this order, here too, whichever ends last.

Where there are answer nodes, `answer` is all that the run has said (`kernel.answer`). Of a run that fails, Dify puts
out what answer nodes did that had ended by then, though it has said more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from headrace.kernel.events import Record
from headrace.kernel.graph import Graph
from headrace.kernel.path import NodeId, Path, containers
from headrace.kernel.response_stream import ResponseStream
from headrace.values import Value


class RunOutputs:
    """`handles`: how each node of the top level was left, where their order decides anything; else None."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._by_node: dict[NodeId, dict[str, Value]] = {}  # by node of the top level
        self.response_stream: ResponseStream | None = None  # of a run that answers
        self._chunks: list[str] = []
        self.handles: dict[NodeId, str] | None = {} if len(graph.response_nodes) > 1 else None

    def start(self, scopes: Mapping[str, Mapping[str, Value]]) -> None:
        """The run was asked for; `scopes` are the values that are known before it starts."""
        if self._graph.has_answer:
            self.response_stream = ResponseStream(self._graph, scopes)

    def apply(self, record: Record) -> None:
        """Takes in what a run that answers says more."""
        if self.response_stream is not None:
            self._chunks += [text for text, *_ in self.response_stream.apply(record)]

    def add(self, path: Path, outputs: Mapping[str, Value]) -> None:
        """A response node has ended."""
        outermost = next(iter(containers(path)), path)
        _merge(self._by_node.setdefault(outermost, {}), outputs)

    @property
    def response_text(self) -> str:
        return "".join(self._chunks)

    def current(self, *, failed: bool = False) -> dict[str, Value]:
        """What has been put out so far, as the run's end tells it if it fails, or does not."""
        outputs: dict[str, Value] = {}
        order = self._by_node if self.handles is None else execution_order(self._graph, self.handles)
        for node in [*order, *(node for node in self._by_node if node not in order)]:
            _merge(outputs, self._by_node.get(node, {}))
        if not failed and (self._chunks or (self.response_stream is not None and "answer" in outputs)):
            outputs["answer"] = self.response_text
        return outputs


def _merge(merged: dict[str, Value], outputs: Mapping[str, Value]) -> None:
    answer, more = merged.get("answer"), outputs.get("answer")
    merged.update(outputs)
    if isinstance(answer, str) and answer and isinstance(more, str):
        merged["answer"] = answer + more


def execution_order(graph: Graph, handles: Mapping[NodeId, str]) -> dict[NodeId, None]:
    """The nodes that ended, as they would have one after the other: each once it is ready, the first ready first."""
    waiting = dict(graph.in_degree)
    reached: set[NodeId] = set()
    queue = deque([graph.root])
    order: dict[NodeId, None] = {}
    skipped: deque[NodeId] = deque()

    def decide(target: NodeId, *, takes: bool) -> None:
        waiting[target] -= 1
        if takes:
            reached.add(target)
        if waiting[target] == 0:
            if target in reached:
                queue.append(target)
            else:
                skipped.append(target)

    while queue:
        node = queue.popleft()
        if node not in handles:
            continue
        order[node] = None
        takes, skips = graph.edges_taken(node, handles[node])
        for edge in skips:
            decide(edge.target, takes=False)
        while skipped:
            for edge in graph.edges_from.get(skipped.popleft(), ()):
                decide(edge.target, takes=False)
        for edge in takes:
            decide(edge.target, takes=True)
    return order
