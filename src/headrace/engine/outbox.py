"""Records of one run on their way to the journal, and from there, in order, to followers.

A numbered record is published once the journal has it. Live text has no number; it is published after the records
before it, and journaled soon after in larger pieces.

During an outage of the database, records are kept here and appended again later, so that a model's response that was
paid for is not lost to a disk that is full for a minute.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.errors import SequenceConflict, StoreError
from headrace.kernel.events import Delta, Record
from headrace.kernel.graph import Path
from headrace.kernel.secrets import SecretMask, StreamingMask
from headrace.ports import Bus, Journal

FLUSH_SECONDS = 0.25  # the time after which streamed text is journaled


@dataclass(slots=True)
class _OutputBuffer:
    """The streamed text of one output that is not in the journal yet, after `offset` characters that are."""

    offset: int = 0
    pieces: list[str] = field(default_factory=list[str])
    size: int = 0
    mask: StreamingMask | None = None


_NO_OFFSETS: Mapping[str, int] = {}


class StreamBuffer:
    """Keeps streamed text, by path and output, until it is journaled. Secrets are masked here: one may span two
    pieces."""

    def __init__(self, mask: SecretMask | None) -> None:
        self._mask = mask
        self.outputs: dict[tuple[Path, str], _OutputBuffer] = {}

    def append(
        self, path: Path, name: str, piece: str, offsets: Mapping[str, int] = _NO_OFFSETS, *, last: bool = False
    ) -> Delta | None:
        """The text to publish now; None if it may be the beginning of a secret, unless the piece is the `last`.
        `offsets`: how long the outputs of the node were when its last step before a crash ended."""
        buffer = self.outputs.get((path, name))
        if buffer is None:
            mask = StreamingMask(self._mask) if self._mask else None
            buffer = self.outputs[path, name] = _OutputBuffer(offsets.get(name, 0), mask=mask)
        if buffer.mask is not None:
            piece = buffer.mask.feed(piece) + (buffer.mask.end() if last else "")
        if not piece:
            return None
        if not buffer.pieces:  # outputs are journaled in the order in which they began to wait
            self.outputs[path, name] = self.outputs.pop((path, name))
        delta = Delta(path, name, buffer.offset + buffer.size, piece)
        buffer.pieces.append(piece)
        buffer.size += len(piece)
        return delta

    def drain(self) -> list[Delta]:
        """The text that is not in the journal yet; it counts as journaled from now on."""
        deltas: list[Delta] = []
        for (path, name), buffer in self.outputs.items():
            if buffer.pieces:
                deltas.append(Delta(path, name, buffer.offset, "".join(buffer.pieces)))
                buffer.offset += buffer.size
                buffer.pieces, buffer.size = [], 0
        return deltas

    def reset(self, path: Path) -> None:
        """The attempt of a node has ended, and its text is journaled: the next attempt starts from the beginning."""
        for key in [key for key in self.outputs if key[0] == path]:
            del self.outputs[key]


MAX_BATCHES = 10  # that one run may be ahead of the journal
FIRST_PAUSE, MAX_PAUSE = 0.2, 5.0  # seconds before an append is tried again
HOLD_SECONDS = 300.0  # after which the run is released, and continues from the journal


@dataclass(slots=True)
class _Batch:
    records: Sequence[Record]
    durable: bool


class Outbox:
    """`on_failure` is called when an append has failed for good; `failure` is the reason."""

    def __init__(self, journal: Journal, bus: Bus, on_failure: Callable[[], None]) -> None:
        self._journal = journal
        self._bus = bus
        self._on_failure = on_failure
        self._batches: deque[_Batch] = deque()
        self._appending: asyncio.Future[None] | None = None  # the newest append
        self._retrying: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    def append(self, records: Sequence[Record]) -> None:
        """Appends numbered records to the journal, and publishes them once it has them."""
        batch = _Batch(records, durable=False)
        self._batches.append(batch)
        if self._retrying is not None:
            return  # it is appended with the others
        try:
            appending = self._appending = asyncio.ensure_future(self._journal.append(records))
        except ValueError as error:  # a value that no journal can store: nested too deeply
            self.fail(error)
            return
        if appending.done():
            self._on_appended(batch, appending)
        else:
            appending.add_done_callback(lambda done: self._on_appended(batch, done))

    def publish_live(self, record: Record) -> None:
        """Publishes a record without a number, after all records before it."""
        if self._batches:
            self._batches.append(_Batch((record,), durable=True))
        else:
            self._bus.publish((record,))

    async def durable(self) -> bool:
        """Waits until the journal has all records; False if it cannot. (A bare `await` would cancel the append with the
        caller.)"""
        if self._appending is not None:
            await asyncio.wait((self._appending,))
        while self._retrying is not None and self.failure is None:
            await asyncio.wait((self._retrying,))
        return self.failure is None

    async def yield_or_wait(self) -> None:
        """Lets other runs proceed; waits for the journal if too many batches are on their way."""
        if len(self._batches) > MAX_BATCHES:
            await self.durable()
        else:
            await asyncio.sleep(0)

    def first_unconfirmed(self) -> int | None:
        """The lowest number that the journal has not confirmed; None if it has all."""
        first_unconfirmed = (
            record.seq for batch in self._batches if not batch.durable for record in batch.records if record.seq
        )
        return min(first_unconfirmed, default=None)

    def _on_appended(self, batch: _Batch, done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            batch.durable = True
            self._publish()
        elif not isinstance(error, StoreError) or not error.transient:
            self.fail(error)
        elif self._retrying is None and self.failure is None:
            # the batches after it have failed with it
            self._retrying = asyncio.create_task(self._retry(), name=f"{batch.records[0].run}: append again")

    def _publish(self) -> None:
        while self._batches and self._batches[0].durable:
            self._bus.publish(self._batches.popleft().records)

    async def _retry(self) -> None:
        """Appends the unconfirmed batches until the journal has all; fails if it cannot, or cannot for too long."""
        clock = asyncio.get_running_loop().time
        until, pause = clock() + HOLD_SECONDS, FIRST_PAUSE
        try:
            while unconfirmed := [batch for batch in self._batches if not batch.durable]:
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE)
                try:
                    await self._append_once([record for batch in unconfirmed for record in batch.records])
                except StoreError as error:
                    if not error.transient or clock() > until:
                        raise
                    continue
                for batch in unconfirmed:
                    batch.durable = True
                self._publish()
                pause = 0.0  # for batches that were added meanwhile
        except Exception as error:
            self.fail(error)
        finally:
            self._retrying = None

    async def _append_once(self, records: Sequence[Record]) -> None:
        try:
            await self._journal.append(records)
        except SequenceConflict:
            # a commit may have taken effect though the connection was lost before its confirmation
            stored_records = await self._journal.read(records[0].run, (records[0].seq or 1) - 1)
            if [*map(_identity, stored_records)] != [*map(_identity, records)]:
                raise

    def close(self) -> None:
        """Ends the retries: the run is no longer driven here."""
        if self._retrying is not None:
            self._retrying.cancel()

    def fail(self, error: BaseException) -> None:
        """No more records can be appended: another process has written to the run, or the journal has failed."""
        self.failure = self.failure or error
        self._on_failure()


def _identity(record: Record) -> tuple[int | None, float, type]:
    """What distinguishes a record of this driver from one that another process has written in its place."""
    return record.seq, record.at, type(record.event)
