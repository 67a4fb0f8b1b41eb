"""The response of one graph while it runs: the text of its response nodes, in order, as early as it is certain.

The template of a response node (end, answer) is a list of pieces: literal text and selectors. Its text is emitted once
the node is certain to be reached: every branching node before it has taken a branch that leads to it. Response nodes
take turns, in the order in which they became certain. A piece that waits for a value delays the pieces after it, and is
left out if its response node ends without the value. Text that a model streams is emitted as it arrives, once for each
piece that has it.

A container, and a node that assigns a variable of a response, count as a choice: nothing after them is emitted before
they have ended. A node with a fail branch is a choice, too, but the response node after its success emits its text at
once: the node can fail only before the text or in the middle of it. Then the text that was emitted stays, and the fail
branch continues from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
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
    StepEnded,
)
from headrace.kernel.graph import FAIL_BRANCH, SOURCE, Graph, NodeId, Path
from headrace.kernel.reasoning import ReasoningStreams
from headrace.kernel.steps import keeps_text
from headrace.kernel.variables import Variables
from headrace.values import Selector, Value, markdown


class TextChunk(NamedTuple):
    """A piece of the response, and the selector that it is from ([node, "answer"] for literal text of a response node).

    `level` is the graph: 0 for the top-level one, else the number of the RoundStarted that began the round. The chunks
    of a level have one order; parallel rounds have none among them. With the selector [node, REASONING] the text is the
    reasoning of a model, see `kernel.reasoning`.
    """

    text: str
    selector: Selector
    level: int = 0


@dataclass(slots=True)
class NodeOutputStream:
    """The text so far of one output of a running node, in pieces: to join them for each piece would take quadratic
    time. `length`, `journaled` and `kept` count characters: all, those in the journal, and those that were there when
    the last step of the node ended."""

    pieces: list[str] = field(default_factory=list[str])
    length: int = 0
    journaled: int = 0
    kept: int = 0


class GraphResponse:
    """The response of one graph: the top-level one, or that of a round. With `reasoning`, also that of its models."""

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
        self.reasoning: ReasoningStreams | None = None  # once a model reasons
        self.round_queue: deque[GraphResponse] = deque()  # the rounds of its container, including itself
        self._streams_reasoning = reasoning
        self._buffered: list[TextChunk] = []  # until its turn comes
        self._variables = Variables(scopes)
        self._certain: set[NodeId] = set()  # to be reached
        self._skipped: set[NodeId] = set()
        self._ended: set[NodeId] = set()
        self._running: dict[NodeId, int] = {}  # the numbers of the NodeStarted
        self._failed = False
        self._queue: deque[NodeId] = deque()  # response nodes that are certain, without those that are complete
        self._provisional: dict[NodeId, NodeId] = {}  # those after a node that may still take its fail branch
        self._piece_index = 0  # of the first in the queue
        self._emitted = 0  # characters of that piece, if it is streamed
        self._streams: dict[Selector, NodeOutputStream] = {}
        self._early_text: tuple[Selector, int] | None = None  # characters emitted for a stream before its first text

    @property
    def unjournaled(self) -> int:
        """How many emitted characters do not follow from a journaled record yet."""
        stream = self._streams.get(piece) if isinstance(piece := self._current_piece(), tuple) else None
        unjournaled = max(0, self._emitted - stream.journaled) if stream else 0
        return unjournaled + (self._early_text[1] if self._early_text else 0)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will be emitted: all response nodes have ended, or the graph has failed and no node is
        running."""
        if self._failed:
            return not self._running
        return all(node in self._ended or node in self._skipped for node in self.graph.response_nodes)

    @property
    def is_first(self) -> bool:
        """Whether it is the first of the rounds of its container that are not finished."""
        return self.parent is None or (bool(self.round_queue) and self.round_queue[0] is self)

    @property
    def has_turn(self) -> bool:
        """Whether it is the first of its rounds, and so is every round around it."""
        return self.is_first and (self.parent is None or self.parent.has_turn)

    def emit(self, chunks: Iterable[TextChunk]) -> list[TextChunk]:
        """The chunks to emit now. A round whose turn has not come buffers its own and those of the rounds inside it."""
        if not self.is_first:
            self._buffered += chunks
            return []
        return list(chunks) if self.parent is None else self.parent.emit(chunks)

    def flush(self) -> list[TextChunk]:
        """The buffered chunks, once its turn has come."""
        chunks, self._buffered = self._buffered, []
        return self.emit(chunks)

    def start(self, node: NodeId | None = None) -> Iterator[TextChunk]:
        """Begins at a node, by default the graph's root."""
        self._reach(node or self.graph.root)
        return self._advance()

    def restart(self) -> Iterator[TextChunk]:
        """The worker was lost: the nodes that were running start again, after the steps that have ended."""
        nodes = {selector[0] for selector in self._streams}.union(self._running) - self._ended
        old_streams = {name: stream for name, stream in self._streams.items() if name[0] in nodes and stream.kept}
        piece, emitted_length = self._current_piece(), self._emitted
        self._reset_streams(nodes)
        for selector, stream in old_streams.items():
            text = "".join(stream.pieces)[: stream.kept]
            self._streams[selector] = NodeOutputStream([text], stream.kept, stream.kept, stream.kept)
            if piece == selector:
                self._emitted = min(emitted_length, stream.kept)
        return self._advance()

    def apply(self, record: Record) -> Iterable[TextChunk]:
        """Applies an event of a node of this graph; returns the chunks that follow from it."""
        event = record.event
        assert isinstance(
            event, NodeStarted | NodeRetried | NodeSkipped | NodeSucceeded | NodeFailed | Delta | StepEnded
        )
        node = event.path[len(self.prefix) :]
        match event:
            case Delta(_, name, at, text) if name == REASONING:
                return self._append_reasoning(node, at, text, journaled=record.seq is not None)
            case Delta(_, name, at, text):
                return self._append((node, name), at, text, journaled=record.seq is not None)
            case StepEnded(name=name):
                for selector, stream in self._streams.items():
                    if selector[0] == node and keeps_text(name):
                        stream.kept = stream.length
                return []
            case NodeStarted(inputs=inputs):
                if (body := self.graph.bodies.get(node)) is None:
                    self._running[node] = record.seq or 0  # a container in a failed round ends without an event
                elif shared_variables := body.container.shared_variables(inputs):
                    self.scopes[node] = shared_variables
                else:
                    return []
            case NodeFailed(strategy=None):
                self._running.pop(node, None)
                self._failed = True
                return []
            case NodeSucceeded() | NodeFailed():
                self._running.pop(node, None)
                if isinstance(event, NodeFailed):
                    self._end_text(node)
                self.graph.store_outputs(self.scopes, node, event.outputs)
                self._ended.add(node)
                if node in self._certain and node in self.graph.choices:
                    for edge in self.graph.edges_taken(node, event.handle)[0]:
                        self._reach(edge.target)
                if self.reasoning and isinstance(event, NodeSucceeded) and (end := self.reasoning.end(node)):
                    return [*(TextChunk(*chunk) for chunk in end), *self._advance()]
            case NodeSkipped():
                self._skipped.add(node)
            case NodeRetried():
                self._reset_streams({node})
        return self._advance()

    # ------------------------------------------------------------------------------------------------------ streams

    def _append(self, selector: Selector, at: int, text: str, *, journaled: bool) -> Iterable[TextChunk]:
        """The chunks that follow from a delta: none if its text is known already, or if text before it was lost (the
        journaled delta has it)."""
        stream = self._streams.setdefault(selector, NodeOutputStream())
        if journaled:
            stream.journaled = max(stream.journaled, at + len(text))
            if self._early_text and self._early_text[0] == selector:
                self._early_text = None
        overlap = stream.length - at
        if overlap < 0 or overlap >= len(text):
            return ()
        stream.pieces.append(text[overlap:])
        stream.length += len(text) - overlap
        if self.graph.nodes[selector[0]].strategy != FAIL_BRANCH:
            return self._advance()
        self._start_early(selector)
        chunks = list(self._advance())
        if not journaled and (early := sum(len(chunk.text) for chunk in chunks if chunk.selector != selector)):
            self._early_text = (selector, early)
        return chunks

    def _start_early(self, selector: Selector) -> None:
        """A node with a fail branch has streamed its first text: the next response node with this text may start."""
        node = selector[0]
        if node not in self._certain or node in self._provisional.values():
            return
        seen_nodes = set(self._certain)
        edges = self.graph.edges_taken(node, SOURCE)[0]
        downstream = (target for edge in edges for target in self._until_choice(edge.target, seen_nodes))
        response = next((target for target in downstream if target in self.graph.responses), None)
        if response is not None and selector in self.graph.responses[response]:
            self._provisional[response] = node
            self._queue.append(response)

    def _end_text(self, node: NodeId) -> None:
        """A node has failed: its text ends here, and the response nodes that had started early do not follow."""
        self._reset_streams({node})
        for response in [response for response, source in self._provisional.items() if source == node]:
            del self._provisional[response]
            if self._queue[0] == response:
                self._piece_index = self._emitted = 0
            self._queue.remove(response)

    def _reset_streams(self, nodes: set[NodeId]) -> None:
        """The attempts of these nodes have ended: the text of the next attempt starts from the beginning."""
        self._streams = {selector: stream for selector, stream in self._streams.items() if selector[0] not in nodes}
        if (piece := self._current_piece()) and piece[0] in nodes:
            self._emitted = 0
        if self.reasoning:
            self.reasoning.reset(nodes)

    def _append_reasoning(self, node: NodeId, at: int, text: str, *, journaled: bool) -> Iterable[TextChunk]:
        if not self._streams_reasoning:
            return ()
        if self.reasoning is None:
            self.reasoning = ReasoningStreams()
        outputs = ((node, "text"), (node, "reasoning_content"))
        shown = any(piece[:2] in outputs for response in self._queue for piece in self.graph.responses[response])
        seq = self._running.get(node, 0)
        chunks = self.reasoning.append(node, seq, at, text, journaled=journaled, shown=shown)
        return [TextChunk(*chunk) for chunk in chunks]

    # ------------------------------------------------------------------------------------------------------- choices

    def _reach(self, node: NodeId) -> None:
        """The node is certain to be reached, and so are all nodes after it up to the next choice."""
        for next_node in self._until_choice(node, self._certain):
            if next_node in self.graph.responses and self._provisional.pop(next_node, None) is None:
                self._queue.append(next_node)

    def _until_choice(self, node: NodeId, seen_nodes: set[NodeId]) -> Iterator[NodeId]:
        """A node and all nodes after it up to the next choice, without those already visited."""
        stack = [node]
        while stack:
            node = stack.pop()
            if node in seen_nodes:
                continue
            seen_nodes.add(node)
            yield node
            if node not in self.graph.choices:
                stack.extend(edge.target for edge in reversed(self.graph.edges_from.get(node, ())))

    # -------------------------------------------------------------------------------------------------------- pieces

    def _current_piece(self) -> str | Selector | None:
        """The piece that is being emitted or waited for."""
        if not self._queue:
            return None
        pieces = self.graph.responses[self._queue[0]]
        return pieces[self._piece_index] if self._piece_index < len(pieces) else None

    def _advance(self) -> Iterator[TextChunk]:
        """Emits pieces, until one has to wait: of a selector what its node has streamed, or the whole value."""
        while self._queue:
            response = self._queue[0]
            pieces = self.graph.responses[response]
            while self._piece_index < len(pieces):
                piece = pieces[self._piece_index]
                if isinstance(piece, str):
                    yield TextChunk(piece, (response, "answer"), self.level)
                elif piece[0] not in self._skipped:
                    is_final = self._is_final(piece)
                    stream = self._streams.get(piece)
                    if stream is None:
                        if is_final and (value := markdown(self._variables.get_with_origin(piece)[1])):
                            yield TextChunk(value, piece, self.level)
                    elif self._emitted < stream.length:
                        at, start = len(stream.pieces), stream.length
                        while start > self._emitted:
                            at -= 1
                            start -= len(stream.pieces[at])
                        text = "".join(stream.pieces[at:])[self._emitted - start :]
                        self._emitted = stream.length
                        yield TextChunk(text, piece, self.level)
                    if not is_final and response not in self._ended:
                        return
                self._piece_index += 1
                self._emitted = 0
            self._queue.popleft()
            self._piece_index = 0

    def _is_final(self, selector: Selector) -> bool:
        scope = selector[0]
        return self._variables.find(selector)[0] and (scope in self._ended or scope not in self.graph.nodes)
