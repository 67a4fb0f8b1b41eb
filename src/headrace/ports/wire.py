"""The wire carries messages between the processes of an installation that need not be durable, as they happen.

Any message may be lost. What a message announces is in the database, which its receivers also read from time to time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from headrace.kernel.events import Record, RunId


class Signal(StrEnum):
    """What has happened in another process, and what the key of the signal is."""

    QUEUED = "queued"  # a run waits for a worker; no key
    STOPPED = "stopped"  # a run is to be stopped, by a process that does not drive it; the run's id
    ENDED = "ended"  # a message has ended or paused; the id of its conversation
    CALLBACK = "callback"  # a callback is due; no key
    MODEL_SLOT = "model-slot"  # slots for calls of a model are free; the name of their limit


class RecordReceiver(Protocol):
    """Receives what other processes publish of the runs that are followed here. It must not fail or wait."""

    def on_records(self, records: Sequence[Record]) -> None:
        """Records of any of these runs; those of one run are in order."""
        ...

    def on_head(self, run: RunId, seq: int) -> None:
        """The journal has the records of a run up to this number. They are not sent: they are too large, or were
        published before it was known here that the run is followed."""
        ...


@dataclass(slots=True)
class WireCounts:
    """Records, and pieces of streamed text, since the process began. `dropped`: those that another process follows and
    that could not be sent; `ignored`: messages that could not be read."""

    published: int = 0
    received: int = 0
    dropped: int = 0
    ignored: int = 0


class Wire(Protocol):
    """The connection of one process to all others. No function waits: messages are sent soon after, together."""

    receiver: RecordReceiver | None
    counts: WireCounts

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent and received at present. A wire between no other processes is connected."""
        ...

    def signal(self, signal: Signal, key: str = "") -> None:
        """Sends a signal to all other processes, not to this one; the same one several times in quick succession is
        sent once."""
        ...

    def on_signal(self, signal: Signal, receive: Callable[[str], None]) -> None:
        """Calls `receive` with the key of each such signal of another process from now on. It must not fail or wait."""
        ...

    def follow(self, run: RunId) -> None:
        """Asks the other processes for the records of a run."""
        ...

    def unfollow(self, run: RunId) -> None: ...

    def publish(self, records: Sequence[Record]) -> None:
        """Sends records to the other processes that follow their runs. Numbered ones must be in the journal."""
        ...
