"""The reasoning of the models of one graph, for nodes that keep it apart from the text.

It is streamed beside the text, but only if the text of the node is part of a response that is certain to be reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headrace.kernel.events import REASONING
from headrace.kernel.graph import NodeId


@dataclass(slots=True)
class _NodeReasoning:
    """How many characters of a node's reasoning are known, emitted and journaled; `seq` is that of its NodeStarted."""

    seq: int
    length: int = 0
    emitted: int = 0
    journaled: int = 0


class ReasoningStreams:
    """Folds the reasoning of nodes into chunks: (text, [node, REASONING], level). The level is the number of the node's
    NodeStarted, since reasoning has an order of its own. An empty text is the end."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, _NodeReasoning] = {}

    @property
    def unjournaled(self) -> dict[int, int]:
        """How many emitted characters are not in the journal yet, by level."""
        counts = {node.seq: min(node.emitted, node.length - node.journaled) for node in self._nodes.values()}
        return {seq: count for seq, count in counts.items() if count > 0}

    def append(
        self, node: NodeId, seq: int, at: int, text: str, *, journaled: bool, shown: bool
    ) -> list[tuple[str, tuple[str, ...], int]]:
        """The new part of a piece, if it is to be `shown`. Nothing if text before it was lost: the journaled piece has
        it."""
        reasoning = self._nodes.setdefault(node, _NodeReasoning(seq))
        if journaled:
            reasoning.journaled = max(reasoning.journaled, at + len(text))
        overlap = reasoning.length - at
        if overlap < 0 or overlap >= len(text):
            return []
        reasoning.length = at + len(text)
        if not shown:
            return []
        reasoning.emitted += len(text) - overlap
        return [(text[overlap:], (node, REASONING), reasoning.seq)]

    def end(self, node: NodeId) -> list[tuple[str, tuple[str, ...], int]]:
        """The node has succeeded."""
        reasoning = self._nodes.pop(node, None)
        return [("", (node, REASONING), reasoning.seq)] if reasoning is not None and reasoning.emitted else []

    def reset(self, nodes: Iterable[NodeId]) -> None:
        """The attempts of these nodes have ended: the reasoning of the next attempt starts from the beginning."""
        for node in nodes:
            if (reasoning := self._nodes.get(node)) is not None:
                self._nodes[node] = _NodeReasoning(reasoning.seq)
