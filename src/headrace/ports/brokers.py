"""The bus need only be fast: the journal restores what it loses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from headrace.kernel.events import Record, RunId
from headrace.ports.wire import Wire


class Bus(Protocol):
    """Delivers records to the followers of a run, as they happen. `observers` receive the numbered records that this
    process publishes; they must neither fail nor wait. `wire` is the connection to other processes, and `poll_seconds`
    the time between reads of what they have written, in case it does not say so."""

    wire: Wire
    poll_seconds: float
    observers: list[Callable[[Sequence[Record]], None]]

    def publish(self, records: Sequence[Record]) -> None:
        """Delivers numbered records, or one without a number."""
        ...

    def subscribe(self, run: RunId) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Record]]]:
        """All records published for the run after the block is entered, as many at a time as there are."""
        ...

    def leave(self, run: RunId) -> None:
        """This process does not drive a run any more that another one continues or ends: its followers are to receive
        what that one publishes."""
        ...
