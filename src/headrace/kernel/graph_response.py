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
    REASONING,
    Delta,
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    Record,
)
from headrace.kernel.graph import FAIL_BRANCH, SOURCE, Graph, NodeId, Path
from headrace.kernel.reasoning import ReasoningStreams
from headrace.kernel.variables import Variables
from headrace.values import Selector, Value, markdown


class TextChunk(NamedTuple):
    """Text told, and the selector it is from ([node, "answer"] for a response's own literal text). `level` says in
    which graph: 0 is the top one, another number the RoundStarted that began the round. What one level says has one
    order; rounds under way at once have none among them. With the selector [node, THOUGHT] it is a model's thinking,
    see `kernel.thinking`."""

    text: str
    selector: Selector
    level: int = 0


class NodeOutputStream:
    """One output of a running node as it grows: what was heard of it, and how much of that the journal has
    (characters)."""

    __slots__ = ("journaled", "text")

    def __init__(self) -> None:
        self.text = ""
        self.journaled = 0


class GraphResponse:
    """What one graph says: the top one, or that of a round."""

    def __init__(
        self,
        graph: Graph,
        scopes: MutableMapping[str, Mapping[str, Value]],
        prefix: Path = "",
        level: int = 0,
        parent: GraphResponse | None = None,
        *,
        reasoning: bool = False,
    ) -> None:
        self.graph = graph
        self.scopes = scopes
        self.prefix = prefix
        self.level = level
        self.parent = parent
        self.reasoning = ReasoningStreams() if reasoning else None
        self.round_queue: deque[GraphResponse] = deque()  # the rounds of its container, itself among them
        self._buffered: list[TextChunk] = []
        self._variables = Variables(scopes)
        self._certain: set[NodeId] = set()
        self._skipped: set[NodeId] = set()
        self._ended: set[NodeId] = set()
        self._running: set[NodeId] = set()
        self._failed = False
        self._queue: deque[NodeId] = deque()
        self._provisional: dict[NodeId, NodeId] = {}  # of those: behind a node that may yet leave by its fail branch
        self._piece_index = 0  # the piece that the first of the waiting has come to
        self._emitted = 0  # characters of it, where it is a stream
        self._streams: dict[Selector, NodeOutputStream] = {}
        self._early_text: tuple[Selector, int] | None = None  # characters told for a stream before its first text

    @property
    def unjournaled(self) -> int:
        """Characters told that follow from no journaled record yet."""
        stream = self._streams.get(piece) if isinstance(piece := self._current_piece(), tuple) else None
        beyond = max(0, self._emitted - stream.journaled) if stream else 0
        return beyond + (self._early_text[1] if self._early_text else 0)

    @property
    def is_finished(self) -> bool:
        """Nothing more will be said: of its speakers none is left, or it has failed, and with it what is to start."""
        if self._failed:
            return not self._running
        return all(node in self._ended or node in self._skipped for node in self.graph.response_nodes)

    @property
    def is_first(self) -> bool:
        return self.parent is None or (bool(self.round_queue) and self.round_queue[0] is self)

    @property
    def has_turn(self) -> bool:
        """Whether it has the word, and so has every round that it is in."""
        return self.is_first and (self.parent is None or self.parent.has_turn)

    def emit(self, chunks: Iterable[TextChunk]) -> list[TextChunk]:
        """What of it is told now: a round whose turn has not come holds back its own words and those inside it."""
        if not self.is_first:
            self._buffered += chunks
            return []
        return list(chunks) if self.parent is None else self.parent.emit(chunks)

    def flush(self) -> list[TextChunk]:
        """Its turn has come."""
        buffered, self._buffered = self._buffered, []
        return self.emit(buffered)

    def start(self) -> Iterator[TextChunk]:
        self._reach(self.graph.root)
        return self._advance()

    def restart(self) -> Iterator[TextChunk]:
        """What was running when the worker was lost begins anew."""
        self._reset_streams({selector[0] for selector in self._streams}.union(self._running) - self._ended)
        return self._advance()

    def apply(self, record: Record) -> Iterable[TextChunk]:
        """Takes in what happened to a node of this level."""
        event = record.event
        assert isinstance(event, NodeStarted | NodeRetried | NodeSkipped | NodeSucceeded | NodeFailed | Delta)
        node = event.path[len(self.prefix) :]
        match event:
            case Delta(_, name, at, text) if name == REASONING:
                return self._append_reasoning(node, at, text, journaled=record.seq is not None)
            case Delta(_, name, at, text):
                return self._append((node, name), at, text, journaled=record.seq is not None)
            case NodeStarted(inputs=inputs):
                if (body := self.graph.bodies.get(node)) is None:
                    self._running.add(node)  # a container in a round that has failed ends unheard
                    if self.reasoning and node in self.graph.reasoning_nodes:
                        self.reasoning.start(node, record.seq or 0)
                elif scope := body.container.shared_variables(inputs):
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
                    self._end_text(node)
                self.graph.store_outputs(self.scopes, node, event.outputs)
                self._ended.add(node)
                self._take_handle(node, event.handle)
                if self.reasoning and isinstance(event, NodeSucceeded) and (end := self.reasoning.end(node)):
                    return [*(TextChunk(*each) for each in end), *self._advance()]
            case NodeSkipped():
                self._skipped.add(node)
            case NodeRetried():
                self._reset_streams({node})
        return self._advance()

    # ------------------------------------------------------------------------------------------------------ streams

    def _append(self, selector: Selector, at: int, text: str, *, journaled: bool) -> Iterable[TextChunk]:
        """What a delta makes known: nothing if it is heard already, or if something between was lost (the journaled
        delta will bring it)."""
        stream = self._streams.setdefault(selector, NodeOutputStream())
        if journaled:
            stream.journaled = max(stream.journaled, at + len(text))
            if self._early_text and self._early_text[0] == selector:
                self._early_text = None
        known = len(stream.text) - at
        if known < 0 or known >= len(text):
            return ()
        stream.text += text[known:]
        if self.graph.nodes[selector[0]].strategy != FAIL_BRANCH:
            return self._advance()
        self._start_early(selector)
        chunks = list(self._advance())
        if not journaled and (early := sum(len(each.text) for each in chunks if each.selector != selector)):
            self._early_text = (selector, early)
        return chunks

    def _start_early(self, selector: Selector) -> None:
        """A node that has a fail branch has made its first text: what tells it next may do so."""
        node = selector[0]
        if node not in self._certain or node in self._provisional.values():
            return
        visited = set(self._certain)
        downstream = (
            each
            for edge in self.graph.edges_taken(node, SOURCE)[0]
            for each in self._until_choice(edge.target, visited)
        )
        response = next((each for each in downstream if each in self.graph.responses), None)
        if response is not None and selector in self.graph.responses[response]:
            self._provisional[response] = node
            self._queue.append(response)

    def _end_text(self, node: NodeId) -> None:
        """A node has failed: its text ends where it is, and what was presumed to follow it does not."""
        self._reset_streams({node})
        for response in [each for each, source in self._provisional.items() if source == node]:
            del self._provisional[response]
            if self._queue[0] == response:
                self._piece_index = self._emitted = 0
            self._queue.remove(response)

    def _reset_streams(self, nodes: set[NodeId]) -> None:
        """Their attempts are over: the next one's text begins anew."""
        self._streams = {selector: stream for selector, stream in self._streams.items() if selector[0] not in nodes}
        if (piece := self._current_piece()) and piece[0] in nodes:
            self._emitted = 0
        if self.reasoning:
            self.reasoning.reset(nodes)

    def _append_reasoning(self, node: NodeId, at: int, text: str, *, journaled: bool) -> Iterable[TextChunk]:
        if self.reasoning is None:
            return ()
        shows = ((node, "text"), (node, "reasoning_content"))
        shown = any(piece[:2] in shows for speaker in self._queue for piece in self.graph.responses[speaker])
        return [TextChunk(*each) for each in self.reasoning.append(node, at, text, journaled=journaled, shown=shown)]

    # ------------------------------------------------------------------------------------------------------- choices

    def _take_handle(self, node: NodeId, handle: str) -> None:
        if node in self._certain and self._is_choice(node):
            for edge in self.graph.edges_taken(node, handle)[0]:
                self._reach(edge.target)

    def _reach(self, node: NodeId) -> None:
        """The node is sure to be reached, and so is all behind it up to the next choice."""
        for each in self._until_choice(node, self._certain):
            if each in self.graph.responses and self._provisional.pop(each, None) is None:
                self._queue.append(each)

    def _until_choice(self, node: NodeId, visited: set[NodeId]) -> Iterator[NodeId]:
        """A node and all behind it up to the next choice, without those seen before."""
        stack = [node]
        while stack:
            node = stack.pop()
            if node in visited:
                continue
            visited.add(node)
            yield node
            if not self._is_choice(node):
                stack.extend(edge.target for edge in reversed(self.graph.edges_from.get(node, ())))

    def _is_choice(self, node: NodeId) -> bool:
        spec = self.graph.nodes[node]
        return (
            spec.branching
            or spec.strategy == FAIL_BRANCH
            or node in self.graph.bodies
            or node in self.graph.assigning_nodes
        )

    # ------------------------------------------------------------------------------------------------------ speaking

    def _current_piece(self) -> str | Selector | None:
        """The piece that is being told or waited for."""
        if not self._queue:
            return None
        pieces = self.graph.responses[self._queue[0]]
        return pieces[self._piece_index] if self._piece_index < len(pieces) else None

    def _advance(self) -> Iterator[TextChunk]:
        while self._queue:
            response = self._queue[0]
            pieces = self.graph.responses[response]
            while self._piece_index < len(pieces):
                piece = pieces[self._piece_index]
                if isinstance(piece, str):
                    yield TextChunk(piece, (response, "answer"), self.level)
                elif piece[0] not in self._skipped:
                    yield from self._emit_value(piece)
                    if not self._is_final(piece) and response not in self._ended:
                        return
                self._piece_index += 1
                self._emitted = 0
            self._queue.popleft()
            self._piece_index = 0

    def _is_final(self, selector: Selector) -> bool:
        scope = selector[0]
        return self._variables.find(selector)[0] and (scope in self._ended or scope not in self.graph.nodes)

    def _emit_value(self, selector: Selector) -> Iterator[TextChunk]:
        stream = self._streams.get(selector)
        if stream is None:
            if self._is_final(selector) and (whole := markdown(self._variables.get_with_origin(selector)[1])):
                yield TextChunk(whole, selector, self.level)
        elif self._emitted < len(stream.text):
            text = stream.text[self._emitted :]
            self._emitted = len(stream.text)
            yield TextChunk(text, selector, self.level)
