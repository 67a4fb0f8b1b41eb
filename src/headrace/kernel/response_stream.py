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
from headrace.kernel.graph import Graph
from headrace.kernel.graph_response import GraphResponse, TextChunk
from headrace.kernel.path import Path, containers, is_inside, node_of, round_path, split
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
