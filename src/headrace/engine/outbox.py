"""Records of one run on their way to the journal, and from there, in order, to followers.

Nobody outside is told a numbered record before the journal has it. Live text has no number; it waits only for what was
noted before it.

While the database is away, records are held here and tried again: a model's answer that was paid for is not lost for
a disk that is full for a minute.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headrace.errors import SequenceConflict, StoreError
from headrace.kernel.events import Delta, Record
from headrace.kernel.graph import Path
from headrace.kernel.secrets import SecretMask, StreamingMask
from headrace.ports import Bus, Journal

FLUSH_SECONDS = 0.25  # how long a piece may wait for the journal


@dataclass(slots=True)
class _OutputBuffer:
    """What the journal does not have yet of one output; `at` characters of it went before."""

    offset: int = 0
    pieces: list[str] = field(default_factory=list[str])
    size: int = 0
    mask: StreamingMask | None = None


class StreamBuffer:
    """Keeps what was streamed until it is taken for the journal. Secrets are masked here: one may span two pieces."""

    def __init__(self, mask: SecretMask) -> None:
        self._mask = mask
        self._buffers: dict[tuple[Path, str], _OutputBuffer] = {}

    def append(self, path: Path, name: str, piece: str) -> Delta | None:
        """What followers can be told of a piece now; None where it may be the beginning of a secret."""
        buffer = self._buffers.get((path, name))
        if buffer is None:
            buffer = self._buffers[path, name] = _OutputBuffer(mask=StreamingMask(self._mask) if self._mask else None)
        return self._add(path, name, buffer, buffer.mask.feed(piece) if buffer.mask else piece)

    def drain(self) -> list[Delta]:
        """What the journal does not have yet."""
        deltas: list[Delta] = []
        for (path, name), buffer in self._buffers.items():
            if buffer.pieces:
                deltas.append(Delta(path, name, buffer.offset, "".join(buffer.pieces)))
                buffer.offset += buffer.size
                buffer.pieces, buffer.size = [], 0
        return deltas

    def end(self, path: Path) -> list[Delta]:
        """An attempt is over: what was held back of its texts can be told. Then `take`, then `forget`."""
        mine = [(key, text) for key, text in self._buffers.items() if key[0] == path and text.mask]
        ends = [self._add(*key, text, text.mask.end()) for key, text in mine if text.mask]
        return [delta for delta in ends if delta]

    def reset(self, path: Path) -> None:
        """The next attempt's texts begin anew."""
        for key in [key for key in self._buffers if key[0] == path]:
            del self._buffers[key]

    def __bool__(self) -> bool:
        return bool(self._buffers)

    def _add(self, path: Path, name: str, buffer: _OutputBuffer, piece: str) -> Delta | None:
        if not piece:
            return None
        if not buffer.pieces:  # what began to wait for the journal first is the first to be written there
            self._buffers[path, name] = self._buffers.pop((path, name))
        delta = Delta(path, name, buffer.offset + buffer.size, piece)
        buffer.pieces.append(piece)
        buffer.size += len(piece)
        return delta


MAX_BATCHES = 10  # turns of instant nodes that one run may be ahead of the journal
FIRST_PAUSE, MAX_PAUSE = 0.2, 5.0  # seconds before a write is tried again
HOLD_SECONDS = 300.0  # records are held for so long; then the run is given back, and begun again from the journal


@dataclass(slots=True)
class _Batch:
    records: Sequence[Record]
    durable: bool


class Outbox:
    """`on_broken` is called once an append has failed; `broken` says how."""

    def __init__(self, journal: Journal, bus: Bus, on_failure: Callable[[], None]) -> None:
        self._journal = journal
        self._bus = bus
        self._on_failure = on_failure
        self._batches: deque[_Batch] = deque()
        self._appending: asyncio.Future[None] | None = None  # the newest append
        self._retrying: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    def append(self, records: Sequence[Record]) -> None:
        """Hands numbered records to the journal; followers are told once it has them."""
        batch = _Batch(records, durable=False)
        self._batches.append(batch)
        if self._retrying is not None:
            return  # it goes with the others
        try:
            appending = self._appending = asyncio.ensure_future(self._journal.append(records))
        except ValueError as error:  # a value that no journal takes: nested too deep
            self.fail(error)
            return
        if appending.done():
            self._on_appended(batch, appending)
        else:
            appending.add_done_callback(lambda done: self._on_appended(batch, done))

    def publish_live(self, record: Record) -> None:
        """Tells followers a record without a number, after all that was written before it."""
        if self._batches:
            self._batches.append(_Batch((record,), durable=True))
        else:
            self._bus.publish((record,))

    async def durable(self) -> bool:
        """Waits until all that was written is safe; False if it cannot be. (A bare `await` would let whoever is
        cancelled take the append with it.)"""
        if self._appending is not None:
            await asyncio.wait((self._appending,))
        while self._retrying is not None and self.failure is None:
            await asyncio.wait((self._retrying,))
        return self.failure is None

    async def yield_or_wait(self) -> None:
        """Lets others have a turn; waits for the disk where too much is on its way to it."""
        if len(self._batches) > MAX_BATCHES:
            await self.durable()
        else:
            await asyncio.sleep(0)

    def first_unconfirmed(self) -> int | None:
        """The lowest number that the journal is not known to have; None where it has all."""
        unconfirmed = (
            record.seq for batch in self._batches if not batch.durable for record in batch.records if record.seq
        )
        return min(unconfirmed, default=None)

    def _on_appended(self, batch: _Batch, done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            batch.durable = True
            self._publish()
        elif not isinstance(error, StoreError) or not error.transient:
            self.fail(error)
        elif self._retrying is None and self.failure is None:
            # whatever was handed over after it has failed with it
            self._retrying = asyncio.create_task(self._retry(), name=f"{batch.records[0].run}: write again")

    def _publish(self) -> None:
        while self._batches and self._batches[0].durable:
            self._bus.publish(self._batches.popleft().records)

    async def _retry(self) -> None:
        """Writes what is not safe, until all is; gives up where it cannot be, or cannot be for long."""
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
                pause = 0.0  # for what has come since
        except Exception as error:
            self.fail(error)
        finally:
            self._retrying = None

    async def _append_once(self, records: Sequence[Record]) -> None:
        try:
            await self._journal.append(records)
        except SequenceConflict:
            # a commit whose answer was lost with the connection has taken effect all the same
            stored = await self._journal.read(records[0].run, (records[0].seq or 1) - 1)
            if [*map(_identity, stored)] != [*map(_identity, records)]:
                raise

    def close(self) -> None:
        """Ends what is still being tried: the run is no longer driven here."""
        if self._retrying is not None:
            self._retrying.cancel()

    def fail(self, error: BaseException) -> None:
        """Nothing more can be written: somebody else has, or the journal cannot."""
        self.failure = self.failure or error
        self._on_failure()


def _identity(record: Record) -> tuple[int | None, float, type]:
    """What tells a record of this driver from one that somebody else has written in its place."""
    return record.seq, record.at, type(record.event)
