"""What the models of one graph think while they run, where their nodes keep it apart from the text. It is told at once,
beside the text, but only of a node whose text some response tells that is sure to be reached."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.kernel.events import REASONING
from headrace.kernel.graph import NodeId


class _NodeReasoning:
    """A node's thinking: what was heard, and how many characters of it were told, and are in the journal."""

    __slots__ = ("emitted", "journaled", "length", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq  # of its NodeStarted
        self.length = self.emitted = self.journaled = 0


class ReasoningStreams:
    """Folds what nodes think into pieces: (text, [node, THOUGHT], the number of the node's NodeStarted, since thinking
    has an order of its own). An empty text is the end."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, _NodeReasoning] = {}

    @property
    def unjournaled(self) -> dict[int, int]:
        """Characters told that no journaled record has yet, by number."""
        counts = {each.seq: min(each.emitted, each.length - each.journaled) for each in self._nodes.values()}
        return {number: count for number, count in counts.items() if count > 0}

    def start(self, node: NodeId, number: int) -> None:
        self._nodes[node] = _NodeReasoning(number)

    def append(
        self, node: NodeId, at: int, text: str, *, journaled: bool, shown: bool
    ) -> list[tuple[str, tuple[str, ...], int]]:
        """What is new of a piece, if it is to be `shown`. Nothing where something between was lost: the journaled piece
        will bring it."""
        thought = self._nodes.setdefault(node, _NodeReasoning(0))
        if journaled:
            thought.journaled = max(thought.journaled, at + len(text))
        known = thought.length - at
        if known < 0 or known >= len(text):
            return []
        thought.length = at + len(text)
        if not shown:
            return []
        thought.emitted += len(text) - known
        return [(text[known:], (node, REASONING), thought.seq)]

    def end(self, node: NodeId) -> list[tuple[str, tuple[str, ...], int]]:
        """The node has ended well."""
        node_reasoning = self._nodes.pop(node, None)
        return (
            [("", (node, REASONING), node_reasoning.seq)]
            if node_reasoning is not None and node_reasoning.emitted
            else []
        )

    def reset(self, nodes: Iterable[NodeId]) -> None:
        """Their attempts are over: the next one's thinking begins anew."""
        for node in nodes:
            if (thought := self._nodes.get(node)) is not None:
                self._nodes[node] = _NodeReasoning(thought.seq)
