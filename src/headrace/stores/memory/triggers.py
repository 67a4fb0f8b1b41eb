"""The states of triggers in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from headrace.ports import TriggerState


class MemoryTriggers:
    """Implements Triggers."""

    def __init__(self) -> None:
        self._states: dict[str, TriggerState] = {}

    async def trigger_states(self, ids: Collection[str]) -> Mapping[str, TriggerState]:
        return {trigger: self._states[trigger] for trigger in ids if trigger in self._states}

    async def scheduled_triggers(self) -> Sequence[TriggerState]:
        return [state for state in self._states.values() if state.schedule]

    async def pause_trigger(self, trigger: str, app: str, *, paused: bool, at: float) -> None:
        state = self._states.get(trigger) or TriggerState(trigger, app)
        handled = state.handled if paused else max(state.handled, at)
        self._states[trigger] = replace(state, paused=paused, handled=handled)

    async def advance_trigger(self, trigger: str, app: str, schedule: str, handled: float) -> None:
        state = self._states.get(trigger) or TriggerState(trigger, app)
        if state.schedule == schedule:
            handled = max(state.handled, handled)
        self._states[trigger] = replace(state, schedule=schedule, handled=handled)

    def remove_of(self, app: str) -> None:
        self._states = {trigger: state for trigger, state in self._states.items() if state.app != app}
