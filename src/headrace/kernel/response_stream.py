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
from headrace.kernel.graph_response import Said, Speech
from headrace.kernel.path import Path, containers, is_inside, node_of, round_path, split
from headrace.values import Value


class Answer:
    """Folds a run's records into what it says. `scopes`: the values known before it starts (env). `thinking`: also
    into what its models think (see `kernel.thinking`)."""

    def __init__(
        self, graph: Graph, scopes: Mapping[str, Mapping[str, Value]] | None = None, *, thinking: bool = False
    ) -> None:
        self._thinking = thinking
        self._top = Speech(graph, dict(scopes or {}), thinking=thinking)
        self._levels: dict[Path, Speech] = {}  # of rounds that may yet speak, by what their paths begin with
        self._turns: dict[Path, deque[Speech]] = {}  # the same by container: the first of them has the word
        self._silent = not graph.speakers
        self._told = graph.told_scopes

    @property
    def unjournaled(self) -> dict[int, int]:
        """Characters told that no journaled record has yet, by level: what a stream's id adds to the sequence
        number."""
        levels = [self._top, *(turns[0] for turns in self._turns.values() if turns and turns[0].speaking)]
        told = {level.number: count for level in levels if (count := level.unjournaled)}
        for level in levels:
            told |= level.thoughts.unjournaled if level.thoughts else {}
        return told

    def apply(self, record: Record) -> list[Said]:
        """Takes a record in (numbered or not); returns what can be told now that could not before."""
        if self._silent:
            return []
        match record.event:
            case RunQueued(system=system):
                self._top.scopes["sys"] = system
                return []
            case RunStarted(conversation):
                self._top.scopes["conversation"] = conversation
                return list(self._top.begin())
            case RunResumed(recovered=True):
                levels = [self._top, *self._levels.values()]
                return [said for level in levels for said in level.told(level.resumed())]
            case RoundStarted() as event:
                return self._round(event, record.seq or 0)
            case NodeSucceeded(path) | NodeFailed(path) as event:
                if isinstance(event, NodeSucceeded):
                    for scope, values in event.assigned.items():
                        self._assign(path, scope, values)
                return [*self._close(path), *self._inform(path, record)]
            case NodeStarted(path) | NodeRetried(path) | NodeSkipped(path) | Delta(path):
                return self._inform(path, record)
            case _:
                return []

    def _inform(self, path: Path, record: Record) -> list[Said]:
        level = self._at(path)
        if level is None:
            self._overhear(path, record)
            return []
        said = level.told(level.apply(record))
        while level is not self._top and level.turns and level.turns[0].finished:
            del self._levels[level.turns.popleft().prefix]
            if level.turns:
                said += level.turns[0].released()
        return said

    def _round(self, event: RoundStarted, number: int) -> list[Said]:
        level = self._at(event.path)
        graph, node = self._top.graph.resolve(event.path)
        body = graph.bodies[node]
        if level is None or not body.graph.speakers:
            if body.container.shares_scopes and (around := self._around(event.path)) is not None:
                round_scopes(body, around.scopes, node, event.inputs)
            return []
        scopes = round_scopes(body, level.scopes, node, event.inputs)
        prefix = round_path(event.path, event.round)
        opened = Speech(body.graph, scopes, prefix, number, level, thinking=self._thinking)
        opened.turns = self._turns.setdefault(event.path, opened.turns)
        opened.turns.append(opened)
        self._levels[opened.prefix] = opened
        return opened.told(opened.begin())

    def _close(self, container: Path) -> list[Said]:
        """A container has ended: what its rounds still hold back is told."""
        if container not in self._turns:
            return []
        said: list[Said] = []
        for inside in [path for path in self._turns if path == container or is_inside(path, container)]:
            turns = self._turns.pop(inside)
            while turns:
                said += turns[0].released()
                del self._levels[turns.popleft().prefix]
        return said

    def _overhear(self, path: Path, record: Record) -> None:
        """What a node makes in a round that never says anything may be told around it, if that is a loop's."""
        event, node = record.event, node_of(path)
        if node not in self._told or (around := self._around(path)) is None:
            return
        graph, _ = self._top.graph.resolve(path)
        if isinstance(event, NodeStarted) and node in graph.bodies:
            around.scopes[node] = graph.bodies[node].container.scope(event.inputs)
        elif isinstance(event, NodeSucceeded) or (isinstance(event, NodeFailed) and event.strategy is not None):
            graph.put(around.scopes, node, event.outputs)

    def _assign(self, path: Path, scope: str, values: Mapping[str, Value]) -> None:
        home: Speech | None = self._top
        for container in containers(path):
            if node_of(container) == scope:
                home = self._at(container)
        if home is not None:
            home.scopes[scope] = {**home.scopes.get(scope, {}), **values}

    def _around(self, path: Path) -> Speech | None:
        """The level that what happens at a path is seen in: its own, or the one around a loop that says nothing."""
        while (level := self._at(path)) is None:
            path = containers(path)[-1]
            graph, node = self._top.graph.resolve(path)
            if not graph.bodies[node].container.shares_scopes:
                return None
        return level

    def _at(self, path: Path) -> Speech | None:
        """The level that a path is in; None where nothing is ever said."""
        round_, _ = split(path)
        return self._levels.get(round_) if round_ else self._top
