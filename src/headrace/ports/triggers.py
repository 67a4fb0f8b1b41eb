"""What is kept of the triggers of apps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TriggerState:
    """The state of a trigger of an app. A schedule has been `handled` up to a time, in seconds since the epoch: what
    was due by then has started a run, or is not going to. `schedule` is the one that this is true of."""

    id: str
    app: str
    paused: bool = False
    schedule: str = ""
    handled: float = 0.0


class Triggers(Protocol):
    """The states of triggers. One without a state is not paused. They are removed with their app."""

    async def trigger_states(self, ids: Collection[str]) -> Mapping[str, TriggerState]:
        """The states of these triggers, by id; those without one are left out."""
        ...

    async def pause_trigger(self, trigger: str, app: str, *, paused: bool, at: float) -> None:
        """Pauses a trigger, or resumes it: then its schedule is handled up to this time."""
        ...

    async def advance_trigger(self, trigger: str, app: str, schedule: str, handled: float) -> None:
        """Stores the schedule, and up to when it is handled; of the same schedule that time never decreases."""
        ...
