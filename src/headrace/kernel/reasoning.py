"""What the models of one graph think while they run, where their nodes keep it apart from the text. It is told at once,
beside the text, but only of a node whose text some response tells that is sure to be reached."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.kernel.events import THOUGHT
from headrace.kernel.path import NodeId


class _Thought:
    """A node's thinking: what was heard, and how many characters of it were told, and are in the journal."""

    __slots__ = ("heard", "journaled", "number", "told")

    def __init__(self, number: int) -> None:
        self.number = number  # of its NodeStarted
        self.heard = self.told = self.journaled = 0


class Thoughts:
    """Folds what nodes think into pieces: (text, [node, THOUGHT], the number of the node's NodeStarted, since thinking
    has an order of its own). An empty text is the end."""

    def __init__(self) -> None:
        self._thoughts: dict[NodeId, _Thought] = {}

    @property
    def unjournaled(self) -> dict[int, int]:
        """Characters told that no journaled record has yet, by number."""
        counts = {each.number: min(each.told, each.heard - each.journaled) for each in self._thoughts.values()}
        return {number: count for number, count in counts.items() if count > 0}

    def begin(self, node: NodeId, number: int) -> None:
        self._thoughts[node] = _Thought(number)

    def grow(
        self, node: NodeId, at: int, text: str, *, journaled: bool, shown: bool
    ) -> list[tuple[str, tuple[str, ...], int]]:
        """What is new of a piece, if it is to be `shown`. Nothing where something between was lost: the journaled piece
        will bring it."""
        thought = self._thoughts.setdefault(node, _Thought(0))
        if journaled:
            thought.journaled = max(thought.journaled, at + len(text))
        known = thought.heard - at
        if known < 0 or known >= len(text):
            return []
        thought.heard = at + len(text)
        if not shown:
            return []
        thought.told += len(text) - known
        return [(text[known:], (node, THOUGHT), thought.number)]

    def end(self, node: NodeId) -> list[tuple[str, tuple[str, ...], int]]:
        """The node has ended well."""
        thought = self._thoughts.pop(node, None)
        return [("", (node, THOUGHT), thought.number)] if thought is not None and thought.told else []

    def forget(self, nodes: Iterable[NodeId]) -> None:
        """Their attempts are over: the next one's thinking begins anew."""
        for node in nodes:
            if (thought := self._thoughts.get(node)) is not None:
                self._thoughts[node] = _Thought(thought.number)
