"""Runs the steps of a node's attempt, and journals their results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from headrace.engine.outbox import Outbox
from headrace.errors import NodeError
from headrace.kernel.events import Event, StepEnded, StepStarted
from headrace.kernel.graph import Path
from headrace.kernel.state import State
from headrace.kernel.steps import NO_METADATA, Step, keeps_text
from headrace.values import DEEPEST_OUTPUT, Value, nests_deeper


class Run(Protocol):
    """What drives the run of a step."""

    @property
    def state(self) -> State: ...

    @property
    def outbox(self) -> Outbox: ...

    def record(self, *events: Event) -> None:
        """Adds events to the run."""
        ...

    def journal_streams(self, path: Path) -> None:
        """Journals what a node has streamed."""
        ...

    def write(self) -> None:
        """Hands the events to the journal."""
        ...


async def run_step(
    run: Run,
    path: Path,
    name: str,
    function: Callable[[], Awaitable[Value]],
    *,
    label: str = "",
    metadata: Mapping[str, Value] = NO_METADATA,
) -> Step:
    """`Context.step` of the node at the path."""
    _check_running(run, path)
    steps = run.state.running[path].steps
    step = steps.get(name)
    if step is not None and step.ended:
        return step
    if step is None:
        _check_depth(f"The metadata of {name}", metadata)
        run.record(StepStarted(path, name, label or name, metadata))
        run.write()
    # what came before is on disk before the world is touched again
    if not await run.outbox.durable():
        raise asyncio.CancelledError
    _check_running(run, path)
    result = await function()
    _check_depth(f"The result of {name}", result)
    _check_running(run, path)
    if keeps_text(name):
        run.journal_streams(path)
    run.record(StepEnded(path, name, result))
    run.write()
    return steps[name]


def _check_running(run: Run, path: Path) -> None:
    """The run may have been stopped or lost meanwhile: then nothing more can be recorded."""
    if path not in run.state.running:
        raise asyncio.CancelledError


def _check_depth(what: str, value: Value) -> None:
    """NodeError if the value is nested too deeply for the journal."""
    if nests_deeper([value], DEEPEST_OUTPUT):
        raise NodeError(f"{what} is nested more than {DEEPEST_OUTPUT} levels deep.", "DepthLimitError")
