"""When rows of the database become due.

The rows are the truth: what is due, since when, how often it was tried, and who does it (`Claims`). A timer only brings
the moment. It may be lost, early, late or doubled: the one called reads the row, and a rare look at all rows does
what no timer has brought.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol

from headrace.errors import HeadraceError


class TimerKind(StrEnum):
    """What becomes due: a form that nobody has answered, the next attempt of a callback, a schedule, or a batch that a
    process is to work on until its end."""

    FORM = "form"
    CALLBACK = "callback"
    SCHEDULE = "schedule"
    BATCH = "batch"


class Timer(NamedTuple):
    """The moment at which a row becomes due, in seconds since the epoch. It has no content, which is in the database;
    `app` and `run` say to people whose it is."""

    kind: TimerKind
    row: str  # its id
    at: float
    app: str = ""
    run: str = ""


class HandledElsewhere(HeadraceError):
    """Another process does at this moment what is due of a row; it is due again if that process dies."""


class DueRows(Protocol):
    """The rows of a kind, in one process."""

    def wake(self) -> None:
        """Looks at the database soon, and does what is due."""
        ...

    async def handle(self, row: str) -> None:
        """Does what is due of a row, if anything is, and returns once it is done. An error, such as `HandledElsewhere`,
        says that it is not: then the row is to be handled again."""
        ...


class Timers(Protocol):
    """Brings the moments of timers to one of the processes that serve their kind."""

    def set(self, timer: Timer) -> None:
        """Sets a timer, and returns at once. Setting it twice is the same as once."""
        ...

    def serving(self, kind: TimerKind, rows: DueRows) -> AbstractAsyncContextManager[None]:
        """While the block lasts, timers of a kind wake these rows, or have them handled; at its end, what is being
        handled is cancelled, and left to other processes."""
        ...

    def look_seconds(self, usual: float) -> float:
        """How often to look at the database for rows that are due, where once in `usual` seconds would do without
        anything that brings timers to other processes."""
        ...
