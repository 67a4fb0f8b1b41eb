"""What a run says while it runs, and so what its answer is: one text, whoever asks for it and when.

The stream of a message, the answer to a blocking call, `outputs.answer` of a run's end and with it what a conversation
keeps and remembers are this text. Each graph says its own (`kernel.speech`). Response nodes inside containers speak for
themselves, round by round: of rounds under way at once one has the word, and the others hold theirs back until they are
next.

Everything is folded from records, so that whoever joins late, or again after a cut, comes to the same text.
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
)
from headrace.kernel.graph import Graph, NodeId, Path, containers, is_inside, node_of, round_path, split
from headrace.kernel.graph_response import GraphResponse, TextChunk
from headrace.values import Value


class ResponseStream:
    """Folds a run's records into what it says. `scopes`: the values known before it starts (env). `thinking`: also
    into what its models think (see `kernel.thinking`)."""

    def __init__(
        self, graph: Graph, scopes: Mapping[str, Mapping[str, Value]] | None = None, *, reasoning: bool = False
    ) -> None:
        self._reasoning = reasoning
        self._root = GraphResponse(graph, dict(scopes or {}), reasoning=reasoning)
        self._rounds: dict[Path, GraphResponse] = {}  # of rounds that may yet speak, by what their paths begin with
        self._round_queues: dict[
            Path, deque[GraphResponse]
        ] = {}  # the same by container: the first of them has the word
        self._silent = not graph.response_nodes
        self._streamed_scopes = graph.streamed_scopes

    @property
    def unjournaled(self) -> dict[int, int]:
        """Characters told that no journaled record has yet, by level: what a stream's id adds to the sequence
        number."""
        levels = [self._root, *(turns[0] for turns in self._round_queues.values() if turns and turns[0].has_turn)]
        told = {level.level: count for level in levels if (count := level.unjournaled)}
        for level in levels:
            told |= level.reasoning.unjournaled if level.reasoning else {}
        return told

    def apply(self, record: Record) -> list[TextChunk]:
        """Takes a record in (numbered or not); returns what can be told now that could not before."""
        if self._silent:
            return []
        match record.event:
            case RunQueued(system=system):
                self._root.scopes["sys"] = system
                return []
            case RunStarted(conversation):
                self._root.scopes["conversation"] = conversation
                return list(self._root.start())
            case RunResumed(recovered=True):
                levels = [self._root, *self._rounds.values()]
                return [said for level in levels for said in level.emit(level.restart())]
            case RoundStarted() as event:
                return self._start_round(event, record.seq or 0)
            case NodeSucceeded(path) | NodeFailed(path) as event:
                if isinstance(event, NodeSucceeded):
                    for scope, values in event.assigned.items():
                        self._assign(path, scope, values)
                return [*self._end_container(path), *self._apply_node(path, record)]
            case NodeStarted(path) | NodeRetried(path) | NodeSkipped(path) | Delta(path):
                return self._apply_node(path, record)
            case _:
                return []

    def _apply_node(self, path: Path, record: Record) -> list[TextChunk]:
        level = self._response_at(path)
        if level is None:
            self._apply_silent(path, record)
            return []
        chunks = level.emit(level.apply(record))
        while level is not self._root and level.round_queue and level.round_queue[0].is_finished:
            del self._rounds[level.round_queue.popleft().prefix]
            if level.round_queue:
                chunks += level.round_queue[0].flush()
        return chunks

    def _start_round(self, event: RoundStarted, seq: int) -> list[TextChunk]:
        level = self._response_at(event.path)
        graph, node = self._root.graph.resolve(event.path)
        body = graph.bodies[node]
        if level is None or not body.graph.response_nodes:
            if body.container.shares_scopes and (outer := self._enclosing(event.path)) is not None:
                round_scopes(body, outer.scopes, node, event.inputs)
            return []
        scopes = round_scopes(body, level.scopes, node, event.inputs)
        prefix = round_path(event.path, event.round)
        response = GraphResponse(body.graph, scopes, prefix, seq, level, reasoning=self._reasoning)
        response.round_queue = self._round_queues.setdefault(event.path, response.round_queue)
        response.round_queue.append(response)
        self._rounds[response.prefix] = response
        return response.emit(response.start())

    def _end_container(self, container: Path) -> list[TextChunk]:
        """A container has ended: what its rounds still hold back is told."""
        if container not in self._round_queues:
            return []
        chunks: list[TextChunk] = []
        for inside in [path for path in self._round_queues if path == container or is_inside(path, container)]:
            turns = self._round_queues.pop(inside)
            while turns:
                chunks += turns[0].flush()
                del self._rounds[turns.popleft().prefix]
        return chunks

    def _apply_silent(self, path: Path, record: Record) -> None:
        """What a node makes in a round that never says anything may be told around it, if that is a loop's."""
        event, node = record.event, node_of(path)
        if node not in self._streamed_scopes or (outer := self._enclosing(path)) is None:
            return
        graph, _ = self._root.graph.resolve(path)
        if isinstance(event, NodeStarted) and node in graph.bodies:
            outer.scopes[node] = graph.bodies[node].container.shared_variables(event.inputs)
        elif isinstance(event, NodeSucceeded) or (isinstance(event, NodeFailed) and event.strategy is not None):
            graph.store_outputs(outer.scopes, node, event.outputs)

    def _assign(self, path: Path, scope: str, values: Mapping[str, Value]) -> None:
        home: GraphResponse | None = self._root
        for container in containers(path):
            if node_of(container) == scope:
                home = self._response_at(container)
        if home is not None:
            home.scopes[scope] = {**home.scopes.get(scope, {}), **values}

    def _enclosing(self, path: Path) -> GraphResponse | None:
        """The level that what happens at a path is seen in: its own, or the one around a loop that says nothing."""
        while (level := self._response_at(path)) is None:
            path = containers(path)[-1]
            graph, node = self._root.graph.resolve(path)
            if not graph.bodies[node].container.shares_scopes:
                return None
        return level

    def _response_at(self, path: Path) -> GraphResponse | None:
        """The level that a path is in; None where nothing is ever said."""
        round_, _ = split(path)
        return self._rounds.get(round_) if round_ else self._root


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
