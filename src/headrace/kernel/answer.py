"""What a run says while it runs: the text of its response nodes, in order, as early as it is certain.

A response node (end, answer) is a list of pieces: literal text and selectors. It may speak once it is sure to be
reached: every branching node on some path to it has chosen that path. One speaks at a time, in the order in which they
became sure; a piece that waits for a value holds back those after it. Text that a model streams is told as it comes.

Everything is folded from records, so that whoever joins late, or again after a cut, comes to the same text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from headrace.kernel.events import (
    Delta,
    NodeFailed,
    NodeRetried,
    NodeSkipped,
    NodeSucceeded,
    Path,
    Record,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.kernel.graph import FAIL_BRANCH, Graph, NodeId
from headrace.kernel.variables import Variables
from headrace.values import Selector, Value, markdown


class Said(NamedTuple):
    """Text told, and the selector it is from ([node, "answer"] for a response's own literal text)."""

    text: str
    selector: Selector


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
        self._graph = graph
        self._scopes: dict[str, Mapping[str, Value]] = dict(scopes or {})
        self._variables = Variables(self._scopes)
        self._sure: set[NodeId] = set()
        self._skipped: set[NodeId] = set()
        self._ended: set[NodeId] = set()
        self._waiting: deque[NodeId] = deque()
        self._at = 0  # the piece that the first of the waiting has come to
        self._streams: dict[Selector, Stream] = {}

    @property
    def unjournaled(self) -> int:
        """Characters told that no journaled record has yet: what a stream's id adds to the sequence number."""
        return sum(max(0, stream.told - stream.journaled) for stream in self._streams.values())

    def apply(self, record: Record) -> list[Said]:
        """Takes a record in (numbered or not); returns what can be told now that could not before."""
        if not self._graph.responses:
            return []
        match record.event:
            case Delta(path, name, at, text):
                if not self._heard((path, name), at, text, journaled=record.seq is not None):
                    return []
            case NodeSucceeded(path):
                self._scopes[path] = record.event.outputs
                self._ended.add(path)
                self._reach_from(path, record.event.handle)
            case NodeFailed(path, strategy=strategy):
                if strategy is None:
                    return []
                self._scopes[path] = record.event.outputs
                self._ended.add(path)
                self._reach_from(path, record.event.handle)
            case NodeSkipped(path):
                self._skipped.add(path)
            case NodeRetried(path):
                self._forget({path})
            case RunResumed(recovered=True):
                self._forget({selector[0] for selector in self._streams} - self._ended)
            case RunQueued():
                self._scopes["sys"] = record.event.system
            case RunStarted():
                self._reach(self._graph.root)
            case _:
                return []
        return list(self._speak())

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

    def _forget(self, paths: set[Path]) -> None:
        """Their attempts are over: the next one's text begins anew."""
        self._streams = {selector: stream for selector, stream in self._streams.items() if selector[0] not in paths}

    def _reach_from(self, node: NodeId, handle: str) -> None:
        if node in self._sure and self._chooses(node):
            for edge in self._graph.leaves(node, handle)[0]:
                self._reach(edge.target)

    def _reach(self, node: NodeId) -> None:
        """The node is sure to be reached, and so is all behind it up to the next choice."""
        stack = [node]
        while stack:
            node = stack.pop()
            if node in self._sure:
                continue
            self._sure.add(node)
            if node in self._graph.responses:
                self._waiting.append(node)
            if not self._chooses(node):
                stack.extend(edge.target for edge in reversed(self._graph.out.get(node, ())))

    def _chooses(self, node: NodeId) -> bool:
        spec = self._graph.nodes[node]
        return spec.branching or spec.strategy == FAIL_BRANCH

    def _speak(self) -> Iterator[Said]:
        while self._waiting:
            speaker = self._waiting[0]
            pieces = self._graph.responses[speaker]
            while self._at < len(pieces):
                piece = pieces[self._at]
                if isinstance(piece, str):
                    yield Said(piece, (speaker, "answer"))
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
        return self._variables.find(selector)[0] and (scope in self._ended or scope not in self._graph.nodes)

    def _tell(self, selector: Selector) -> Iterator[Said]:
        stream = self._streams.get(selector)
        if stream is None:
            if self._known(selector) and (whole := markdown(self._variables.raw(selector)[1])):
                yield Said(whole, selector)
        elif stream.told < len(stream.heard):
            text = stream.heard[stream.told :]
            stream.told = len(stream.heard)
            yield Said(text, selector)
