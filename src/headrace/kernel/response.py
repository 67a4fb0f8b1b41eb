"""The response of a run: its text while it runs, and its outputs.

The text is the same in every view: the stream of a message, the response to a blocking call, `outputs.answer` of the
run, and what a conversation stores and remembers. Each graph has its own part of it (`kernel.graph_response`). Response
nodes inside containers emit theirs round by round: of parallel rounds one has its turn, and the others buffer their
text. All of it is folded from records, so that a reader who joins late, or again, comes to the same text.

Facts about outputs (Dify 1.12): the output of a response node replaces that of another one with the same name, except
for `answer`, which is concatenated. Dify runs the nodes of a graph of fewer than ten one after the other, in the order
in which they became ready; so the value of a name that several End nodes have is that of the last one in this order,
here too, whichever ends last. If there are answer nodes, `answer` is the text of the response. The outputs of a failed
run have only the answers of nodes that had ended, though more text may have been emitted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from headrace.kernel.containers import round_scopes
from headrace.kernel.events import (
    Delta,
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunQueued,
    RunResumed,
    RunStarted,
    StepEnded,
)
from headrace.kernel.graph import Graph, NodeId, Path, containers, is_inside, is_top_level, node_of, round_path, split
from headrace.kernel.graph_response import GraphResponse, TextChunk
from headrace.values import Value


class ResponseStream:
    """Folds a run's records into the text of its response. `scopes`: the values before it starts (env). `reasoning`:
    also into the reasoning of its models (see `kernel.reasoning`)."""

    def __init__(
        self, graph: Graph, scopes: Mapping[str, Mapping[str, Value]] | None = None, *, reasoning: bool = False
    ) -> None:
        self._reasoning = reasoning
        self._root = GraphResponse(graph, dict(scopes or {}), reasoning=reasoning)
        self._start = graph.root
        self._rounds: dict[Path, GraphResponse] = {}  # those that are not finished, by the path of the round
        self._round_queues: dict[Path, deque[GraphResponse]] = {}  # by container; the first one has its turn
        self._silent = not graph.response_nodes
        self._streamed_scopes = graph.streamed_scopes

    @property
    def unjournaled(self) -> dict[int, int]:
        """How many emitted characters are not in the journal yet, by level: what the id of a stream event adds to the
        sequence number."""
        responses = [self._root, *(queue[0] for queue in self._round_queues.values() if queue and queue[0].has_turn)]
        counts = {response.level: count for response in responses if (count := response.unjournaled)}
        for response in responses:
            counts |= response.reasoning.unjournaled if response.reasoning else {}
        return counts

    def apply(self, record: Record) -> list[TextChunk]:
        """Applies a record (with or without a number); returns the text that can be emitted now."""
        if self._silent:
            return []
        match record.event:
            case RunQueued(system=system, start=start):
                self._root.scopes["sys"] = system
                self._start = start or self._start
                return []
            case RunStarted(conversation):
                self._root.scopes["conversation"] = conversation
                return list(self._root.start(self._start))
            case RunResumed(recovered=True):
                responses = [self._root, *self._rounds.values()]
                return [chunk for response in responses for chunk in response.emit(response.restart())]
            case RoundStarted() as event:
                return self._start_round(event, record.seq or 0)
            case NodeSucceeded(path) | NodeFailed(path) as event:
                if isinstance(event, NodeSucceeded):
                    for scope, values in event.assigned.items():
                        self._assign(path, scope, values)
                if path in self._round_queues:
                    return [*self._end_container(path), *self._apply_node(path, record)]
                return self._apply_node(path, record)
            case NodeStarted(path) | NodeRetried(path) | NodeSkipped(path) | Delta(path) | StepEnded(path):
                return self._apply_node(path, record)
            case _:
                return []

    def _apply_node(self, path: Path, record: Record) -> list[TextChunk]:
        # `_response_at`, without a call for each streamed piece
        response = self._root if is_top_level(path) else self._rounds.get(split(path)[0])
        if response is None:
            self._apply_silent(path, record)
            return []
        if response is self._root:
            return list(response.apply(record))
        chunks = response.emit(response.apply(record))
        queue = response.round_queue
        while queue and queue[0].is_finished:
            del self._rounds[queue.popleft().prefix]
            if queue:
                chunks += queue[0].flush()
        return chunks

    def _start_round(self, event: RoundStarted, seq: int) -> list[TextChunk]:
        parent = self._response_at(event.path)
        graph, node = self._root.graph.resolve(event.path)
        body = graph.bodies[node]
        if parent is None or not body.graph.response_nodes:
            if body.container.shares_scopes and (outer := self._enclosing(event.path)) is not None:
                round_scopes(body, outer.scopes, node, event.inputs)
            return []
        scopes = round_scopes(body, parent.scopes, node, event.inputs)
        prefix = round_path(event.path, event.round)
        response = GraphResponse(body.graph, scopes, prefix, seq, parent, reasoning=self._reasoning)
        response.round_queue = self._round_queues.setdefault(event.path, response.round_queue)
        response.round_queue.append(response)
        self._rounds[response.prefix] = response
        return response.emit(response.start())

    def _end_container(self, container: Path) -> list[TextChunk]:
        """A container has ended: its rounds emit what they have buffered."""
        chunks: list[TextChunk] = []
        for inside in [path for path in self._round_queues if path == container or is_inside(path, container)]:
            queue = self._round_queues.pop(inside)
            while queue:
                chunks += queue[0].flush()
                del self._rounds[queue.popleft().prefix]
        return chunks

    def _apply_silent(self, path: Path, record: Record) -> None:
        """A round without response nodes emits nothing, but if its container is a loop, a response outside may have the
        outputs of its nodes."""
        event, node = record.event, node_of(path)
        if node not in self._streamed_scopes or (outer := self._enclosing(path)) is None:
            return
        graph, _ = self._root.graph.resolve(path)
        if isinstance(event, NodeStarted) and node in graph.bodies:
            outer.scopes[node] = graph.bodies[node].container.shared_variables(event.inputs)
        elif isinstance(event, NodeSucceeded) or (isinstance(event, NodeFailed) and event.strategy is not None):
            graph.store_outputs(outer.scopes, node, event.outputs)

    def _assign(self, path: Path, scope: str, values: Mapping[str, Value]) -> None:
        owner: GraphResponse | None = self._root
        for container in containers(path):
            if node_of(container) == scope:
                owner = self._response_at(container)
        if owner is not None:
            owner.scopes[scope] = {**owner.scopes.get(scope, {}), **values}

    def _enclosing(self, path: Path) -> GraphResponse | None:
        """The response that has the scopes of a path: its own, or that around loops without response nodes."""
        while (response := self._response_at(path)) is None:
            path = containers(path)[-1]
            graph, node = self._root.graph.resolve(path)
            if not graph.bodies[node].container.shares_scopes:
                return None
        return response

    def _response_at(self, path: Path) -> GraphResponse | None:
        """The response of the graph that a path is in; None if the graph never emits anything."""
        return self._root if is_top_level(path) else self._rounds.get(split(path)[0])


class RunOutputs:
    """The outputs of a run so far. `handles`: the handle that each top-level node took, if the order of the nodes makes
    a difference; else None."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._by_node: dict[NodeId, dict[str, Value]] = {}  # top-level node
        self.response_stream: ResponseStream | None = None  # if there are answer nodes
        self._chunks: list[str] = []
        self.handles: dict[NodeId, str] | None = {} if len(graph.response_nodes) > 1 else None

    def start(self, scopes: Mapping[str, Mapping[str, Value]]) -> None:
        """A run with answer nodes has been submitted; `scopes` are the values before it starts."""
        self.response_stream = ResponseStream(self._graph, scopes)

    def apply(self, record: Record) -> None:
        """Applies a record of a run with answer nodes."""
        if self.response_stream is not None:
            self._chunks += [text for text, *_ in self.response_stream.apply(record)]

    def add(self, path: Path, outputs: Mapping[str, Value]) -> None:
        """A response node has ended."""
        node = path if is_top_level(path) else containers(path)[0]
        if node in self._by_node:
            _merge(self._by_node[node], outputs)
        else:
            self._by_node[node] = dict(outputs)

    @property
    def response_text(self) -> str:
        return "".join(self._chunks)

    def current(self, *, failed: bool = False) -> dict[str, Value]:
        """The outputs if the run ended now, with this failure or without one."""
        order = self._by_node if self.handles is None else execution_order(self._graph, self.handles)
        in_order = [
            *(node for node in order if node in self._by_node),
            *(node for node in self._by_node if node not in order),
        ]
        outputs = dict(self._by_node[in_order[0]]) if in_order else {}
        for node in in_order[1:]:
            _merge(outputs, self._by_node[node])
        if not failed and (self._chunks or (self.response_stream is not None and "answer" in outputs)):
            outputs["answer"] = self.response_text
        return outputs


def _merge(outputs_of_all: dict[str, Value], outputs: Mapping[str, Value]) -> None:
    answer, more = outputs_of_all.get("answer"), outputs.get("answer")
    outputs_of_all.update(outputs)
    if isinstance(answer, str) and answer and isinstance(more, str):
        outputs_of_all["answer"] = answer + more


def execution_order(graph: Graph, handles: Mapping[NodeId, str]) -> dict[NodeId, None]:
    """The nodes that ended, in the order of sequential execution: the one that became ready first runs first."""
    edges_left = dict(graph.in_degree)
    reachable: set[NodeId] = set()
    queue = deque(node for node in graph.starts if node in handles)
    order: dict[NodeId, None] = {}
    skipped_nodes = deque(node for node in graph.starts if node not in handles)

    def decide(target: NodeId, *, taken: bool) -> None:
        edges_left[target] -= 1
        if taken:
            reachable.add(target)
        if edges_left[target] == 0:
            if target in reachable:
                queue.append(target)
            else:
                skipped_nodes.append(target)

    while queue:
        node = queue.popleft()
        if node not in handles:
            continue
        order[node] = None
        taken_edges, skipped_edges = graph.edges_taken(node, handles[node])
        for edge in skipped_edges:
            decide(edge.target, taken=False)
        while skipped_nodes:
            for edge in graph.edges_from.get(skipped_nodes.popleft(), ()):
                decide(edge.target, taken=False)
        for edge in taken_edges:
            decide(edge.target, taken=True)
    return order
