"""What a run says while it runs: the text of its response nodes, in order, as early as it is certain.

A response node (end, answer) is a list of pieces: literal text and selectors. It may speak once it is sure to be
reached: every branching node on some path to it has chosen that path. One speaks at a time, in the order in which they
became sure; a piece that waits for a value holds back those after it. Text that a model streams is told as it comes.

A container, and a node that assigns a variable which some response tells, counts as a choice: nothing is said past it
before it is done.
Response nodes inside containers speak for themselves, round by round: of rounds under way at once one has the word, and
the others hold theirs back until they are next.

Everything is folded from records, so that whoever joins late, or again after a cut, comes to the same text.
"""

from __future__ import annotations

from collections import ChainMap, deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import NamedTuple

from headrace.kernel.events import (
    Delta,
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Path,
    Record,
    RoundStarted,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.kernel.graph import FAIL_BRANCH, ROUND_END, Graph, NodeId
from headrace.kernel.rounds import ancestors
from headrace.kernel.variables import Variables
from headrace.values import Selector, Value, markdown


class Said(NamedTuple):
    """Text told, and the selector it is from ([node, "answer"] for a response's own literal text). `level` says in
    which graph: 0 is the top one, another number the RoundStarted that began the round. What one level says has one
    order; rounds under way at once have none among them."""

    text: str
    selector: Selector
    level: int = 0


class Stream:
    """One output of a running node as it grows: what was heard of it, told of it, and journaled of it (characters)."""

    __slots__ = ("heard", "journaled", "told")

    def __init__(self) -> None:
        self.heard = ""
        self.told = 0
        self.journaled = 0


class Answer:
    """Folds a run's records into what it says. `scopes`: the values known before it starts (env)."""

    def __init__(self, graph: Graph, scopes: Mapping[str, Mapping[str, Value]] | None = None) -> None:
        self._top = _Level(graph, dict(scopes or {}))
        self._levels: dict[Path, _Level] = {}  # of rounds that may yet speak, by what their paths begin with
        self._turns: dict[Path, deque[_Level]] = {}  # the same by container: the first of them has the word
        self._silent = not graph.speakers

    @property
    def unjournaled(self) -> dict[int, int]:
        """Characters told that no journaled record has yet, by level: what a stream's id adds to the sequence
        number."""
        levels = [self._top, *(turns[0] for turns in self._turns.values() if turns and turns[0].speaking)]
        return {level.number: count for level in levels if (count := level.unjournaled)}

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
            return []
        said = level.told(level.apply(record))
        while level is not self._top and level.turns and level.turns[0].finished:
            del self._levels[level.turns.popleft().prefix]
            if level.turns:
                said += level.turns[0].released()
        return said

    def _round(self, event: RoundStarted, number: int) -> list[Said]:
        level = self._at(event.path)
        if level is None:
            return []
        node = event.path[len(level.prefix) :]
        body = level.graph.bodies[node]
        if not body.graph.speakers:
            return []
        scopes = ChainMap({node: event.inputs} if event.inputs else {}, level.scopes)
        opened = _Level(body.graph, scopes, f"{event.path}[{event.round}{ROUND_END}", number, level)
        opened.turns = self._turns.setdefault(event.path, opened.turns)
        opened.turns.append(opened)
        self._levels[opened.prefix] = opened
        return opened.told(opened.begin())

    def _close(self, container: Path) -> list[Said]:
        """A container has ended: what its rounds still hold back is told."""
        if container not in self._turns:
            return []
        said: list[Said] = []
        for inside in [each for each in self._turns if each == container or each.startswith(f"{container}[")]:
            turns = self._turns.pop(inside)
            while turns:
                said += turns[0].released()
                del self._levels[turns.popleft().prefix]
        return said

    def _assign(self, path: Path, scope: str, values: Mapping[str, Value]) -> None:
        home: _Level | None = self._top
        for container in ancestors(path):
            if container.rpartition(ROUND_END)[2] == scope:
                home = self._at(container)
        if home is not None:
            home.scopes[scope] = {**home.scopes.get(scope, {}), **values}

    def _at(self, path: Path) -> _Level | None:
        """The level that a path is in; None where nothing is ever said."""
        at = path.rfind(ROUND_END)
        return self._top if at < 0 else self._levels.get(path[: at + len(ROUND_END)])


class _Level:
    """What one graph says: the top one, or that of a round."""

    def __init__(
        self,
        graph: Graph,
        scopes: MutableMapping[str, Mapping[str, Value]],
        prefix: Path = "",
        number: int = 0,
        around: _Level | None = None,
    ) -> None:
        self.graph = graph
        self.scopes = scopes
        self.prefix = prefix
        self.number = number
        self.around = around
        self.turns: deque[_Level] = deque()  # the rounds of its container, itself among them
        self._held: list[Said] = []
        self._variables = Variables(scopes)
        self._sure: set[NodeId] = set()
        self._skipped: set[NodeId] = set()
        self._ended: set[NodeId] = set()
        self._running: set[NodeId] = set()
        self._failed = False
        self._waiting: deque[NodeId] = deque()
        self._at = 0  # the piece that the first of the waiting has come to
        self._streams: dict[Selector, Stream] = {}

    @property
    def unjournaled(self) -> int:
        return sum(max(0, stream.told - stream.journaled) for stream in self._streams.values())

    @property
    def finished(self) -> bool:
        """Nothing more will be said: of its speakers none is left, or it has failed, and with it what is to start."""
        if self._failed:
            return not self._running
        return all(node in self._ended or node in self._skipped for node in self.graph.speakers)

    @property
    def first(self) -> bool:
        return self.around is None or (bool(self.turns) and self.turns[0] is self)

    @property
    def speaking(self) -> bool:
        """Whether it has the word, and so has every round that it is in."""
        return self.first and (self.around is None or self.around.speaking)

    def told(self, said: Iterable[Said]) -> list[Said]:
        """What of it is told now: a round whose turn has not come holds back its own words and those inside it."""
        if not self.first:
            self._held += said
            return []
        return list(said) if self.around is None else self.around.told(said)

    def released(self) -> list[Said]:
        """Its turn has come."""
        held, self._held = self._held, []
        return self.told(held)

    def begin(self) -> Iterator[Said]:
        self._reach(self.graph.root)
        return self._speak()

    def resumed(self) -> Iterator[Said]:
        """What was running when the worker was lost begins anew."""
        self._forget({selector[0] for selector in self._streams} - self._ended)
        return self._speak()

    def apply(self, record: Record) -> Iterable[Said]:
        """Takes in what happened to a node of this level."""
        event = record.event
        assert isinstance(event, NodeStarted | NodeRetried | NodeSkipped | NodeSucceeded | NodeFailed | Delta)
        node = event.path[len(self.prefix) :]
        match event:
            case Delta(_, name, at, text):
                if not self._heard((node, name), at, text, journaled=record.seq is not None):
                    return []
            case NodeStarted(inputs=inputs):
                if node not in self.graph.bodies:  # a container in a round that has failed ends unheard
                    self._running.add(node)
                if not inputs:
                    return []
                self.scopes[node] = inputs  # a loop's variables
            case NodeFailed(strategy=None):
                self._running.discard(node)
                self._failed = True
                return []
            case NodeSucceeded() | NodeFailed():
                self._running.discard(node)
                self.scopes[node] = event.outputs
                self._ended.add(node)
                self._reach_from(node, event.handle)
            case NodeSkipped():
                self._skipped.add(node)
            case NodeRetried():
                self._forget({node})
        return self._speak()

    def _heard(self, selector: Selector, at: int, text: str, *, journaled: bool) -> bool:
        """Adds to a stream what of the delta is new; False if nothing is, or if something between was lost (the
        journaled delta will bring it)."""
        stream = self._streams.setdefault(selector, Stream())
        if journaled:
            stream.journaled = max(stream.journaled, at + len(text))
        known = len(stream.heard) - at
        if known < 0 or known >= len(text):
            return False
        stream.heard += text[known:]
        return True

    def _forget(self, nodes: set[NodeId]) -> None:
        """Their attempts are over: the next one's text begins anew."""
        self._streams = {selector: stream for selector, stream in self._streams.items() if selector[0] not in nodes}

    def _reach_from(self, node: NodeId, handle: str) -> None:
        if node in self._sure and self._chooses(node):
            for edge in self.graph.leaves(node, handle)[0]:
                self._reach(edge.target)

    def _reach(self, node: NodeId) -> None:
        """The node is sure to be reached, and so is all behind it up to the next choice."""
        stack = [node]
        while stack:
            node = stack.pop()
            if node in self._sure:
                continue
            self._sure.add(node)
            if node in self.graph.responses:
                self._waiting.append(node)
            if not self._chooses(node):
                stack.extend(edge.target for edge in reversed(self.graph.out.get(node, ())))

    def _chooses(self, node: NodeId) -> bool:
        spec = self.graph.nodes[node]
        return spec.branching or spec.strategy == FAIL_BRANCH or node in self.graph.bodies or node in self.graph.holding

    def _speak(self) -> Iterator[Said]:
        while self._waiting:
            speaker = self._waiting[0]
            pieces = self.graph.responses[speaker]
            while self._at < len(pieces):
                piece = pieces[self._at]
                if isinstance(piece, str):
                    yield Said(piece, (speaker, "answer"), self.number)
                elif piece[0] not in self._skipped:
                    yield from self._tell(piece)
                    if not self._known(piece):
                        break
                self._at += 1
            # one that was reached although a piece of it has no value has nothing more to say
            if self._at < len(pieces) and speaker not in self._ended:
                return
            self._waiting.popleft()
            self._at = 0

    def _known(self, selector: Selector) -> bool:
        scope = selector[0]
        return self._variables.find(selector)[0] and (scope in self._ended or scope not in self.graph.nodes)

    def _tell(self, selector: Selector) -> Iterator[Said]:
        stream = self._streams.get(selector)
        if stream is None:
            if self._known(selector) and (whole := markdown(self._variables.raw(selector)[1])):
                yield Said(whole, selector, self.number)
        elif stream.told < len(stream.heard):
            text = stream.heard[stream.told :]
            stream.told = len(stream.heard)
            yield Said(text, selector, self.number)
