"""One log line for each run that ends here."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context

from headrace.kernel.events import RunEnded
from headrace.kernel.summary import duration
from headrace.telemetry.run_tracker import Sink, TrackedRun

logger = logging.getLogger("headrace.runs")

_SECONDS = 0.05
"""Lines of this time are written together: that costs a run a third of what a line at its end does."""


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
        for run, at, event in ended:
            _log(run, duration(run.queued_at, at), event)


def _log(run: TrackedRun, seconds: float, event: RunEnded) -> None:
    fields = {"run": run.run, "app": run.queued.app, "status": event.status, "seconds": seconds}
    why = ""
    if event.error:
        mask = run.flow.mask if run.flow is not None else None
        fields["error"] = mask.text(event.error) if mask else event.error
        why = f": {fields['error']}"
        if run.failure is not None and event.error.endswith(run.failure.error):
            path = fields["node"] = run.failure.path
            spec = run.spec(path)
            why = f" at '{path if spec is None else spec.title or spec.id}'{why}"
    values = (run.run, run.name, event.status, seconds, why)
    logger.info("run %s of %s: %s in %.2f s%s", *values, extra={"fields": fields})
