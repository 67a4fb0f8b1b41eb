"""What one graph says while it runs: the text of its response nodes, in order, as early as it is certain.

A response node (end, answer) is a list of pieces: literal text and selectors. It may speak once it is sure to be
reached: every branching node on some path to it has chosen that path. One speaks at a time, in the order in which they
became sure; a piece that waits for a value holds back those after it, and is passed over once its response node has
ended without one. Text that a model streams is told as it comes, and as often as the pieces ask for it.

A container, and a node that assigns a variable which some response tells, counts as a choice: nothing is said past it
before it is done. A node with a fail branch is a choice, too, but its first text is told at once by the response node
behind its success: it can fail only before that, or in the middle, and then what was said stays said and the fail
branch goes on from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import NamedTuple

from headrace.kernel.events import (
    THOUGHT,
    Delta,
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
)
from headrace.kernel.graph import FAIL_BRANCH, SOURCE, Graph
from headrace.kernel.path import NodeId, Path
from headrace.kernel.reasoning import Thoughts
from headrace.kernel.variables import Variables
from headrace.values import Selector, Value, markdown


class Said(NamedTuple):
    """Text told, and the selector it is from ([node, "answer"] for a response's own literal text). `level` says in
    which graph: 0 is the top one, another number the RoundStarted that began the round. What one level says has one
    order; rounds under way at once have none among them. With the selector [node, THOUGHT] it is a model's thinking,
    see `kernel.thinking`."""

    text: str
    selector: Selector
    level: int = 0


class Stream:
    """One output of a running node as it grows: what was heard of it, and how much of that the journal has
    (characters)."""

    __slots__ = ("heard", "journaled")

    def __init__(self) -> None:
        self.heard = ""
        self.journaled = 0


class Speech:
    """What one graph says: the top one, or that of a round."""

    def __init__(
        self,
        graph: Graph,
        scopes: MutableMapping[str, Mapping[str, Value]],
        prefix: Path = "",
        number: int = 0,
        around: Speech | None = None,
        *,
        thinking: bool = False,
    ) -> None:
        self.graph = graph
        self.scopes = scopes
        self.prefix = prefix
        self.number = number
        self.around = around
        self.thoughts = Thoughts() if thinking else None
        self.turns: deque[Speech] = deque()  # the rounds of its container, itself among them
        self._held: list[Said] = []
        self._variables = Variables(scopes)
        self._sure: set[NodeId] = set()
        self._skipped: set[NodeId] = set()
        self._ended: set[NodeId] = set()
        self._running: set[NodeId] = set()
        self._failed = False
        self._waiting: deque[NodeId] = deque()
        self._presumed: dict[NodeId, NodeId] = {}  # of those: behind a node that may yet leave by its fail branch
        self._at = 0  # the piece that the first of the waiting has come to
        self._told = 0  # characters of it, where it is a stream
        self._streams: dict[Selector, Stream] = {}
        self._early: tuple[Selector, int] | None = None  # characters told for a stream before its first text

    @property
    def unjournaled(self) -> int:
        """Characters told that follow from no journaled record yet."""
        stream = self._streams.get(piece) if isinstance(piece := self._piece(), tuple) else None
        beyond = max(0, self._told - stream.journaled) if stream else 0
        return beyond + (self._early[1] if self._early else 0)

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
        self._forget({selector[0] for selector in self._streams}.union(self._running) - self._ended)
        return self._speak()

    def apply(self, record: Record) -> Iterable[Said]:
        """Takes in what happened to a node of this level."""
        event = record.event
        assert isinstance(event, NodeStarted | NodeRetried | NodeSkipped | NodeSucceeded | NodeFailed | Delta)
        node = event.path[len(self.prefix) :]
        match event:
            case Delta(_, name, at, text) if name == THOUGHT:
                return self._thought(node, at, text, journaled=record.seq is not None)
            case Delta(_, name, at, text):
                return self._grown((node, name), at, text, journaled=record.seq is not None)
            case NodeStarted(inputs=inputs):
                if (body := self.graph.bodies.get(node)) is None:
                    self._running.add(node)  # a container in a round that has failed ends unheard
                    if self.thoughts and node in self.graph.thinking:
                        self.thoughts.begin(node, record.seq or 0)
                elif scope := body.container.scope(inputs):
                    self.scopes[node] = scope
                else:
                    return []
            case NodeFailed(strategy=None):
                self._running.discard(node)
                self._failed = True
                return []
            case NodeSucceeded() | NodeFailed():
                self._running.discard(node)
                if isinstance(event, NodeFailed):
                    self._disappointed(node)
                self.graph.put(self.scopes, node, event.outputs)
                self._ended.add(node)
                self._reach_from(node, event.handle)
                if self.thoughts and isinstance(event, NodeSucceeded) and (end := self.thoughts.end(node)):
                    return [*(Said(*each) for each in end), *self._speak()]
            case NodeSkipped():
                self._skipped.add(node)
            case NodeRetried():
                self._forget({node})
        return self._speak()

    # ------------------------------------------------------------------------------------------------------ streams

    def _grown(self, selector: Selector, at: int, text: str, *, journaled: bool) -> Iterable[Said]:
        """What a delta makes known: nothing if it is heard already, or if something between was lost (the journaled
        delta will bring it)."""
        stream = self._streams.setdefault(selector, Stream())
        if journaled:
            stream.journaled = max(stream.journaled, at + len(text))
            if self._early and self._early[0] == selector:
                self._early = None
        known = len(stream.heard) - at
        if known < 0 or known >= len(text):
            return ()
        stream.heard += text[known:]
        if self.graph.nodes[selector[0]].strategy != FAIL_BRANCH:
            return self._speak()
        self._presume(selector)
        said = list(self._speak())
        if not journaled and (early := sum(len(each.text) for each in said if each.selector != selector)):
            self._early = (selector, early)
        return said

    def _presume(self, selector: Selector) -> None:
        """A node that has a fail branch has made its first text: what tells it next may do so."""
        node = selector[0]
        if node not in self._sure or node in self._presumed.values():
            return
        seen = set(self._sure)
        behind = (each for edge in self.graph.leaves(node, SOURCE)[0] for each in self._walk(edge.target, seen))
        speaker = next((each for each in behind if each in self.graph.responses), None)
        if speaker is not None and selector in self.graph.responses[speaker]:
            self._presumed[speaker] = node
            self._waiting.append(speaker)

    def _disappointed(self, node: NodeId) -> None:
        """A node has failed: its text ends where it is, and what was presumed to follow it does not."""
        self._forget({node})
        for speaker in [each for each, source in self._presumed.items() if source == node]:
            del self._presumed[speaker]
            if self._waiting[0] == speaker:
                self._at = self._told = 0
            self._waiting.remove(speaker)

    def _forget(self, nodes: set[NodeId]) -> None:
        """Their attempts are over: the next one's text begins anew."""
        self._streams = {selector: stream for selector, stream in self._streams.items() if selector[0] not in nodes}
        if (piece := self._piece()) and piece[0] in nodes:
            self._told = 0
        if self.thoughts:
            self.thoughts.forget(nodes)

    def _thought(self, node: NodeId, at: int, text: str, *, journaled: bool) -> Iterable[Said]:
        if self.thoughts is None:
            return ()
        shows = ((node, "text"), (node, "reasoning_content"))
        shown = any(piece[:2] in shows for speaker in self._waiting for piece in self.graph.responses[speaker])
        return [Said(*each) for each in self.thoughts.grow(node, at, text, journaled=journaled, shown=shown)]

    # ------------------------------------------------------------------------------------------------------- choices

    def _reach_from(self, node: NodeId, handle: str) -> None:
        if node in self._sure and self._chooses(node):
            for edge in self.graph.leaves(node, handle)[0]:
                self._reach(edge.target)

    def _reach(self, node: NodeId) -> None:
        """The node is sure to be reached, and so is all behind it up to the next choice."""
        for each in self._walk(node, self._sure):
            if each in self.graph.responses and self._presumed.pop(each, None) is None:
                self._waiting.append(each)

    def _walk(self, node: NodeId, seen: set[NodeId]) -> Iterator[NodeId]:
        """A node and all behind it up to the next choice, without those seen before."""
        stack = [node]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            yield node
            if not self._chooses(node):
                stack.extend(edge.target for edge in reversed(self.graph.out.get(node, ())))

    def _chooses(self, node: NodeId) -> bool:
        spec = self.graph.nodes[node]
        return spec.branching or spec.strategy == FAIL_BRANCH or node in self.graph.bodies or node in self.graph.holding

    # ------------------------------------------------------------------------------------------------------ speaking

    def _piece(self) -> str | Selector | None:
        """The piece that is being told or waited for."""
        if not self._waiting:
            return None
        pieces = self.graph.responses[self._waiting[0]]
        return pieces[self._at] if self._at < len(pieces) else None

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
                    if not self._known(piece) and speaker not in self._ended:
                        return
                self._at += 1
                self._told = 0
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
        elif self._told < len(stream.heard):
            text = stream.heard[self._told :]
            self._told = len(stream.heard)
            yield Said(text, selector, self.number)
