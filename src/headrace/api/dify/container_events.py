"""The events of iterations and loops: iteration_started, _next and _completed, and the same of loops.

Facts (recorded, Dify 1.12): containers have no node_started or node_finished. iteration_next begins at index 0, and an
empty list has no events at all; loop_next begins at 1, and a loop that was not broken off sends one more at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from headrace.api.dify.schemas.events import (
    ContainerCompletedData,
    ContainerMetadata,
    ContainerStartedData,
    IterationNextData,
    LoopNextData,
    NodeIdentity,
    RoundLocation,
    RoundMetadata,
)
from headrace.kernel.events import NodeFailed, NodeStarted, NodeSucceeded, Record, RoundStarted
from headrace.kernel.graph import Graph, NodeSpec, Path, rounds
from headrace.kernel.summary import duration
from headrace.kernel.trace import NodeTrace
from headrace.values import Value

ContainerEvent = tuple[str, Mapping[str, Value]]
"""(event, its data)."""


def container_events(graph: Graph, record: Record, node: NodeTrace) -> Iterator[ContainerEvent]:
    """The events of a record that is about a container."""
    spec = graph.spec_of(node.path)
    match record.event:
        case NodeStarted() as event:
            yield from _started(spec, event, record.at)
        case RoundStarted() as event:
            yield from _round(spec, event, record.at)
        case NodeSucceeded() | NodeFailed() as event:
            yield from _ended(spec, node, event, record.at)
        case _:
            pass


def round_location(graph: Graph, path: Path) -> RoundLocation:
    """The innermost iteration and loop that a node is inside of."""
    location: RoundLocation = {"iteration_id": None, "loop_id": None}
    for container, _ in rounds(path):
        spec = graph.spec_of(container)
        if spec.traits.loop:
            location["loop_id"] = spec.id
        else:
            location["iteration_id"] = spec.id
    return location


def round_metadata(graph: Graph, path: Path) -> RoundMetadata:
    """The same with the indices of the rounds."""
    metadata: RoundMetadata = {}
    for container, index in rounds(path):
        spec = graph.spec_of(container)
        if spec.traits.loop:
            metadata["loop_id"], metadata["loop_index"] = spec.id, index
        else:
            metadata["iteration_id"], metadata["iteration_index"] = spec.id, index
    return metadata


def _started(spec: NodeSpec, event: NodeStarted, at: float) -> Iterator[ContainerEvent]:
    length = _length(spec, event.inputs)
    if length or spec.traits.loop:
        data: ContainerStartedData = {
            **_identity(spec),
            "created_at": int(at),
            "extras": {},
            "metadata": {f"{spec.type}_length": length},
            "inputs": event.inputs,
            "inputs_truncated": False,
        }
        yield f"{spec.type}_started", data


def _round(spec: NodeSpec, event: RoundStarted, at: float) -> Iterator[ContainerEvent]:
    if not spec.traits.loop:
        data: IterationNextData = {**_identity(spec), "index": event.round, "created_at": int(at), "extras": {}}
        yield "iteration_next", data
    elif event.round:
        yield _loop_next(spec, event.round, at)


def _ended(spec: NodeSpec, node: NodeTrace, event: NodeSucceeded | NodeFailed, at: float) -> Iterator[ContainerEvent]:
    """Nothing for a container that could not begin, or for an iteration over nothing."""
    if not node.has_started or not (node.rounds or spec.traits.loop):
        return
    if event.process.get("exhausted"):
        yield _loop_next(spec, len(node.rounds), at)
    metadata = _metadata(spec, event, node)
    data: ContainerCompletedData = {
        **_identity(spec),
        "outputs": event.outputs,
        "outputs_truncated": False,
        "created_at": int(at),
        "extras": {},
        "inputs": node.inputs,
        "inputs_truncated": False,
        "status": "succeeded" if isinstance(event, NodeSucceeded) else "failed",
        "error": None,
        "elapsed_time": duration(node.started_at, at),
        "total_tokens": metadata["total_tokens"],
        "execution_metadata": metadata,
        "finished_at": int(at),
        "steps": event.process.get("steps", 0),
    }
    yield f"{spec.type}_completed", data


def _metadata(spec: NodeSpec, event: NodeSucceeded | NodeFailed, node: NodeTrace) -> ContainerMetadata:
    succeeded = isinstance(event, NodeSucceeded)
    usage = cast("dict[str, Any]", event.usage if succeeded and event.usage else event.process)
    metadata: ContainerMetadata = {  # without usage: the result was taken over from another run
        "total_tokens": usage.get("total_tokens", 0),
        "total_price": usage.get("total_price", "0.0"),
        "currency": usage.get("currency", "USD"),
    }
    durations = {
        str(index): duration(round_.started_at, round_.ended_at)
        for index, round_ in node.rounds.items()
        if succeeded or not round_.failed
    }
    if spec.traits.loop:
        metadata["completed_reason"] = event.process.get("completed_reason")
        metadata["loop_duration_map"] = durations
        metadata["loop_variable_map"] = event.process.get("loop_variable_map")
    else:
        metadata["iteration_duration_map"] = durations
    return metadata


def _identity(spec: NodeSpec) -> NodeIdentity:
    return {"id": spec.id, "node_id": spec.id, "node_type": spec.type, "title": spec.title}


def _loop_next(spec: NodeSpec, index: int, at: float) -> ContainerEvent:
    data: LoopNextData = {
        **_identity(spec),
        "index": index,
        "created_at": int(at),
        "pre_loop_output": {},
        "extras": {},
    }
    return "loop_next", data


def _length(spec: NodeSpec, inputs: Mapping[str, Value]) -> int:
    if spec.traits.loop:
        return cast("int", inputs.get("loop_count", 0))
    return len(cast("list[Value]", inputs.get("iterator_selector", [])))
