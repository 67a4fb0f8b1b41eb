"""One log line for each run that ends here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextvars import Context
from typing import Any

from headrace.kernel.events import RunEnded
from headrace.kernel.summary import duration
from headrace.telemetry.run_tracker import Sink, TrackedRun

logger = logging.getLogger("headrace.runs")

_SECONDS = 0.05
"""Lines of this time are one record: most of what a line costs, a record does."""


class RunLog(Sink):
    """Logs how each run ended, how long it took since it was submitted, and where it failed."""

    def __init__(self) -> None:
        self._ended: list[tuple[TrackedRun, float, RunEnded]] = []

    def on_ended(self, run: TrackedRun, at: float, event: RunEnded) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        self._ended.append((run, at, event))
        if len(self._ended) == 1:
            # in a context of its own, since the lines are not about the current run alone
            asyncio.get_running_loop().call_later(_SECONDS, self.flush, context=Context())

    def flush(self) -> None:
        """Writes the lines that wait."""
        ended, self._ended = self._ended, []
        if ended:
            entries = [_entry(run, duration(run.queued_at, at), event) for run, at, event in ended]
            logger.info("%s", "\n".join(text for text, _ in entries), extra={"entries": entries})


def _entry(run: TrackedRun, seconds: float, event: RunEnded) -> tuple[str, Mapping[str, Any]]:
    """The text of a line, and the items that it says."""
    items = {"run": run.run, "app": run.queued.app, "status": event.status, "seconds": seconds}
    text = f"run {run.run} of {run.name}: {event.status} in {seconds:.2f} s"
    if event.error:
        mask = run.flow.mask if run.flow is not None else None
        error = mask.text(event.error) if mask else event.error
        if run.failure is not None and event.error.endswith(run.failure.error):
            path = items["node"] = run.failure.path
            spec = run.spec(path)
            text += f" at '{path if spec is None else spec.title or spec.id}'"
        items["error"] = error
        text += f": {error}"
    return text, items
