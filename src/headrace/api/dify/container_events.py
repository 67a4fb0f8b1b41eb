"""What iteration and loop nodes tell: iteration_started, _next and _completed, and the same of loops.

Facts (recorded, Dify 1.12): they have no node_started or node_finished. iteration_next begins at index 0 and an empty
list is not told of at all; loop_next begins at 1, and a loop that was not broken off tells one more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from headrace.api.dify.run_responses import seconds
from headrace.kernel.events import NodeFailed, NodeStarted, NodeSucceeded, RoundStarted
from headrace.kernel.graph import LOOP, Graph, NodeSpec
from headrace.kernel.path import Path, rounds
from headrace.values import Value

_UNPAID: Mapping[str, Value] = {"total_tokens": 0, "total_price": "0.0", "currency": "USD"}  # of a run done again
Told = tuple[str, dict[str, Value]]
"""(event, its data)."""


@dataclass(slots=True)
class _Round:
    """When it began, when something in it last ended, and whether it failed."""

    since: float
    until: float
    failed: bool = False


@dataclass(slots=True)
class _Under:
    """A container under way."""

    since: float
    inputs: Mapping[str, Value]
    rounds: dict[int, _Round] = field(default_factory=dict[int, _Round])


class ContainerEvents:
    """Folds what happens to a run's containers, and says of every node inside where it is."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._under: dict[Path, _Under] = {}

    def spec(self, path: Path) -> NodeSpec:
        return self._graph.spec_of(path)

    def holds(self, path: Path) -> bool:
        """Whether the node is a container."""
        return self._graph.is_container(path)

    def started(self, event: NodeStarted, at: float) -> Iterator[Told]:
        spec = self.spec(event.path)
        self._under[event.path] = _Under(at, event.inputs)
        length = _length(spec, event.inputs)
        if length or spec.type == LOOP:
            yield (
                f"{spec.type}_started",
                _named(spec)
                | {
                    "created_at": int(at),
                    "extras": {},
                    "metadata": {f"{spec.type}_length": length},
                    "inputs": event.inputs,
                    "inputs_truncated": False,
                },
            )

    def round(self, event: RoundStarted, at: float) -> Iterator[Told]:
        spec = self.spec(event.path)
        self._under[event.path].rounds[event.round] = _Round(at, at)
        if spec.type != LOOP:
            yield "iteration_next", _named(spec) | {"index": event.round, "created_at": int(at), "extras": {}}
        elif event.round:
            yield _again(spec, event.round, at)

    def ended(self, event: NodeSucceeded | NodeFailed, at: float) -> Iterator[Told]:
        """Of a container; one that had nothing to begin with is not told of."""
        under = self._under.pop(event.path, None)
        spec = self.spec(event.path)
        if under is None or not (under.rounds or spec.type == LOOP):
            return
        done = isinstance(event, NodeSucceeded)
        spent = cast("dict[str, Any]", event.usage if done and event.usage else event.process)
        if event.process.get("exhausted"):
            yield _again(spec, len(under.rounds), at)
        metadata = {name: spent.get(name, nothing) for name, nothing in _UNPAID.items()}
        lasted = {
            str(index): seconds(each.since, each.until)
            for index, each in under.rounds.items()
            if done or not each.failed
        }
        if spec.type == LOOP:
            metadata |= {
                "completed_reason": event.process.get("completed_reason"),
                "loop_duration_map": lasted,
                "loop_variable_map": event.process.get("loop_variable_map"),
            }
        else:
            metadata["iteration_duration_map"] = lasted
        yield (
            f"{spec.type}_completed",
            _named(spec)
            | {
                "outputs": event.outputs,
                "outputs_truncated": False,
                "created_at": int(at),
                "extras": {},
                "inputs": under.inputs,
                "inputs_truncated": False,
                "status": "succeeded" if done else "failed",
                "error": None,
                "elapsed_time": seconds(under.since, at),
                "total_tokens": metadata["total_tokens"],
                "execution_metadata": metadata,
                "finished_at": int(at),
                "steps": event.process.get("steps", 0),
            },
        )

    def heard(self, path: Path, at: float, *, failed: bool = False) -> None:
        """Something ended inside: the rounds it is in lasted at least until now."""
        for container, index in rounds(path):
            if (under := self._under.get(container)) and (each := under.rounds.get(index)):
                each.until = at
                each.failed = each.failed or failed

    def place(self, path: Path) -> dict[str, Value]:
        """Whose round a node is in: `iteration_id` and `loop_id`, the innermost of each."""
        told: dict[str, Value] = {"iteration_id": None, "loop_id": None}
        for container, _ in rounds(path):
            spec = self.spec(container)
            told[f"{spec.type}_id"] = spec.id
        return told

    def metadata(self, path: Path) -> dict[str, Value]:
        """The same with the round's index, as execution_metadata has it."""
        told: dict[str, Value] = {}
        for container, index in rounds(path):
            spec = self.spec(container)
            told |= {f"{spec.type}_id": spec.id, f"{spec.type}_index": index}
        return told


def _named(spec: NodeSpec) -> dict[str, Value]:
    return {"id": spec.id, "node_id": spec.id, "node_type": spec.type, "title": spec.title}


def _again(spec: NodeSpec, index: int, at: float) -> Told:
    return "loop_next", _named(spec) | {"index": index, "created_at": int(at), "pre_loop_output": {}, "extras": {}}


def _length(spec: NodeSpec, inputs: Mapping[str, Value]) -> int:
    if spec.type == LOOP:
        return cast("int", inputs.get("loop_count", 0))
    return len(cast("list[Value]", inputs.get("iterator_selector", [])))
