"""How many calls of models are in progress at once, in all processes on a database."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Granted(NamedTuple):
    """How many more calls may begin, and whether calls of other processes wait."""

    calls: int
    others_wait: bool


class ModelSlots(Protocol):
    """Slots for calls of models, by the name of a limit."""

    async def request(self, name: str, limit: int, active: int, waiting: int) -> Granted:
        """Replaces what was known of this process: `active` calls are in progress, and `waiting` more are to begin.
        Grants as many of these as `limit` allows for all processes together; of several processes that wait, the one
        with the fewest calls comes first, then the one that has waited for longest. A dead worker has no calls."""
        ...
