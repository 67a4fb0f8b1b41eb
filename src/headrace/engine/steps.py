"""Runs the steps of a node's attempt, and journals their results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from headrace.errors import NodeError
from headrace.frozen import frozen
from headrace.kernel.events import Event, StepEnded, StepStarted
from headrace.kernel.graph import Path
from headrace.kernel.state import State
from headrace.kernel.steps import NO_METADATA, Step, keeps_text
from headrace.values import DEEPEST_OUTPUT, Value, nests_deeper


@frozen
class StepRunner:
    """Runs the steps of all nodes of a run: `run` with the path of a node is its `Context.step`. `record` adds an event
    to the run, and `journal_streams` what the node has streamed; `write` hands events to the journal, and `durable`
    waits until it has them; False if it cannot."""

    state: State
    record: Callable[[Event], None]
    journal_streams: Callable[[Path], None]
    write: Callable[[], None]
    durable: Callable[[], Awaitable[bool]]

    async def run(
        self,
        path: Path,
        name: str,
        function: Callable[[], Awaitable[Value]],
        *,
        label: str = "",
        metadata: Mapping[str, Value] = NO_METADATA,
    ) -> Step:
        self._check_running(path)
        steps = self.state.running[path].steps
        step = steps.get(name)
        if step is not None and step.ended:
            return step
        if step is None:
            _check_depth(f"The metadata of {name}", metadata)
            self.record(StepStarted(path, name, label or name, metadata))
            self.write()
        # what came before is on disk before the world is touched again
        if not await self.durable():
            raise asyncio.CancelledError
        self._check_running(path)
        result = await function()
        _check_depth(f"The result of {name}", result)
        self._check_running(path)
        if keeps_text(name):
            self.journal_streams(path)
        self.record(StepEnded(path, name, result))
        self.write()
        return steps[name]

    def _check_running(self, path: Path) -> None:
        """The run may have been stopped or lost meanwhile: then nothing more can be recorded."""
        if path not in self.state.running:
            raise asyncio.CancelledError


def _check_depth(what: str, value: Value) -> None:
    """NodeError if the value is nested too deeply for the journal."""
    if nests_deeper([value], DEEPEST_OUTPUT):
        raise NodeError(f"{what} is nested more than {DEEPEST_OUTPUT} levels deep.", "DepthLimitError")
