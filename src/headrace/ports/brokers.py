"""What need only be fast: what it loses, the journal brings back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from headrace.kernel.events import Record, RunId


class Queue(Protocol):
    """Runs waiting for a worker. A message is a hint: lost or doubled, no run is."""

    async def put(self, run: RunId) -> None: ...

    def claim(self, worker: str) -> AbstractAsyncContextManager[RunId]:
        """Waits for a run; holds its lease (renewed) until the block ends. A block left by an exception, or a worker
        that dies, gives the run back."""
        ...


class Bus(Protocol):
    """Records told to whoever follows a run, as they happen."""

    def publish(self, records: Sequence[Record]) -> None: ...

    def subscribe(self, run: RunId) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Record]]]:
        """All records published for the run from the moment the block is entered, as many at a time as there are."""
        ...
