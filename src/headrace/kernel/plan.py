"""What comes next in a run: a pure function of its graph and state.

Whoever drives a run asks again after every event; asking twice gives the same answer. `Start` is the one thing that
cannot be written down before it is done; all else that `plan` returns are events to append.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from headrace.kernel.events import NodeSkipped, Path, RunEnded, RunStarted
from headrace.kernel.state import State


@dataclass(frozen=True, slots=True)
class Start:
    """Run this node now. `again`: it had started before a crash, and its NodeStarted is written already."""

    path: Path
    again: bool = False


Step: TypeAlias = Start | NodeSkipped | RunStarted | RunEnded


def plan(state: State) -> list[Step]:
    """The steps that can be taken now; empty while the run waits for a node, for a person, or for nothing at all."""
    if state.ended or state.queued is None:
        return []
    if state.stop:
        return [ended(state, "stopped", error=stopped_error(state))]
    if state.started_at is None:
        return [RunStarted()]
    if state.paused:
        return []
    if state.failure:
        # what runs already is let to its end, so that nobody wonders what became of it
        if state.running:
            return [Start(path, again=True) for path in state.interrupted]
        return [ended(state, "failed", error=state.failure.error)]
    if state.skips or state.ready or state.interrupted:
        return [
            *(NodeSkipped(path) for path in state.skips),
            *(Start(path, again=True) for path in state.interrupted),
            *(Start(path) for path in state.ready),
        ]
    if state.running:
        return []
    return [ended(state, "partial-succeeded" if state.totals.exceptions else "succeeded")]


def stopped_error(state: State) -> str:
    return "Stopped by user." if state.stop and state.stop.by else "Stopped."


def ended(state: State, status: str, error: str | None = None) -> RunEnded:
    """The run's last event, with what it used."""
    totals = state.totals
    outputs = state.outputs if error is None else {}
    return RunEnded(status, dict(outputs), error, totals.tokens, totals.steps, totals.exceptions)
