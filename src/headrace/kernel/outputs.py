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
from headrace.kernel.response_stream import Answer
from headrace.values import Value


class Outputs:
    """`handles`: how each node of the top level was left, where their order decides anything; else None."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._parts: dict[NodeId, dict[str, Value]] = {}  # by node of the top level
        self.answer: Answer | None = None  # of a run that answers
        self._said: list[str] = []
        self.handles: dict[NodeId, str] | None = {} if len(graph.speakers) > 1 else None

    def begin(self, scopes: Mapping[str, Mapping[str, Value]]) -> None:
        """The run was asked for; `scopes` are the values that are known before it starts."""
        if self._graph.answers:
            self.answer = Answer(self._graph, scopes)

    def hear(self, record: Record) -> None:
        """Takes in what a run that answers says more."""
        if self.answer is not None:
            self._said += [text for text, *_ in self.answer.apply(record)]

    def add(self, path: Path, outputs: Mapping[str, Value]) -> None:
        """A response node has ended."""
        outermost = next(iter(containers(path)), path)
        _merge(self._parts.setdefault(outermost, {}), outputs)

    @property
    def said(self) -> str:
        return "".join(self._said)

    def now(self, *, failed: bool = False) -> dict[str, Value]:
        """What has been put out so far, as the run's end tells it if it fails, or does not."""
        made: dict[str, Value] = {}
        order = self._parts if self.handles is None else execution_order(self._graph, self.handles)
        for node in [*order, *(node for node in self._parts if node not in order)]:
            _merge(made, self._parts.get(node, {}))
        if not failed and (self._said or (self.answer is not None and "answer" in made)):
            made["answer"] = self.said
        return made


def _merge(made: dict[str, Value], outputs: Mapping[str, Value]) -> None:
    said, more = made.get("answer"), outputs.get("answer")
    made.update(outputs)
    if isinstance(said, str) and said and isinstance(more, str):
        made["answer"] = said + more


def execution_order(graph: Graph, handles: Mapping[NodeId, str]) -> dict[NodeId, None]:
    """The nodes that ended, as they would have one after the other: each once it is ready, the first ready first."""
    waiting = dict(graph.arity)
    taken: set[NodeId] = set()
    queue = deque([graph.root])
    order: dict[NodeId, None] = {}
    skipped: deque[NodeId] = deque()

    def decide(target: NodeId, *, takes: bool) -> None:
        waiting[target] -= 1
        if takes:
            taken.add(target)
        if waiting[target] == 0:
            if target in taken:
                queue.append(target)
            else:
                skipped.append(target)

    while queue:
        node = queue.popleft()
        if node not in handles:
            continue
        order[node] = None
        takes, skips = graph.leaves(node, handles[node])
        for edge in skips:
            decide(edge.target, takes=False)
        while skipped:
            for edge in graph.out.get(skipped.popleft(), ()):
                decide(edge.target, takes=False)
        for edge in takes:
            decide(edge.target, takes=True)
    return order
