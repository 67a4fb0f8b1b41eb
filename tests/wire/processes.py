"""Wires of several processes, all in this one, and what arrives at each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

from headrace.adapters.wire import HostWire, open_wire
from headrace.background import background
from headrace.kernel.events import Delta, NodeStarted, Record, RunId
from headrace.ports import Signal, Wire
from headrace.stores.encoding import decode, encode

Arrival = Record | tuple[RunId, int] | tuple[Signal, str]

_GREETING = "greeting "
_numbers = count()


class Process:
    """One of several processes, and what arrives there: records, heads and signals, in order."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.arrived: deque[Arrival] = deque()
        self.greetings: set[str] = set()
        self._more = asyncio.Event()
        wire.receiver = self
        for signal in Signal:
            wire.on_signal(signal, lambda key, signal=signal: self._on_signal(signal, key))

    def on_records(self, records: Sequence[Record]) -> None:
        self._add(*records)

    def on_head(self, run: RunId, seq: int) -> None:
        self._add((run, seq))

    def _on_signal(self, signal: Signal, key: str) -> None:
        if key.startswith(_GREETING):
            self.greetings.add(key)
        else:
            self._add((signal, key))

    def _add(self, *arrivals: Arrival) -> None:
        self.arrived.extend(arrivals)
        self._more.set()

    async def take(self) -> Arrival:
        """The next arrival."""
        async with asyncio.timeout(60):
            while not self.arrived:
                self._more.clear()
                await self._more.wait()
        return self.arrived.popleft()


async def eventually(is_done: Callable[[], bool]) -> None:
    for _ in range(6000):
        if is_done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not happened within a minute")


async def settle(processes: Sequence[Process]) -> None:
    """Until the processes know each other, and each has what every other one has sent before."""
    greetings = {sender: f"{_GREETING}{next(_numbers)}" for sender in processes}

    def has_arrived() -> bool:
        missing = [
            sender
            for sender, greeting in greetings.items()
            if not all(other is sender or greeting in other.greetings for other in processes)
        ]
        for sender in missing:
            sender.wire.signal(Signal.QUEUED, greetings[sender])  # lost, as long as others are not known
        return not missing

    await eventually(has_arrived)


@asynccontextmanager
async def connected(url: str, many: int, secret: bytes) -> AsyncGenerator[list[Process]]:
    """Processes of one installation that know each other."""
    async with AsyncExitStack() as stack:
        wires = [open_wire(url, secret, encode, decode) for _ in range(many)]
        processes = [Process(wire) for wire in wires]
        for wire in wires:
            await stack.enter_async_context(background(f"wire {wire.host}", wire.run()))
        await settle(processes)
        yield processes


def host(process: Process) -> HostWire:
    assert isinstance(process.wire, HostWire)
    return process.wire


def record(seq: int | None, run: str = "r1", text: str = "hi") -> Record:
    """A numbered record, or a piece of text."""
    return Record(run, seq, 1.0, NodeStarted(text) if seq else Delta("llm", "text", 0, text))
