"""A host on its own: what it sends through a server that a test holds in its hand, and what it ignores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from headrace.adapters.wire import HostWire
from headrace.adapters.wire import host as hosts
from headrace.adapters.wire.messages import Messages, line
from headrace.background import background
from headrace.errors import HeadraceError
from headrace.ports import Signal
from headrace.stores.encoding import decode, encode
from tests.wire.processes import Process, eventually, record, settle

SECRET = b"s" * 32


class Carrier:
    """Delivers messages in this process. Unless `connected` is set, nothing can be sent; if it `swallows` them, nothing
    arrives."""

    name = "test://carrier"
    max_bytes = 7_900

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.connected.set()
        self.swallows = False
        self.sent: list[tuple[str, bytes]] = []
        self.connections: list[tuple[Sequence[str], asyncio.Queue[bytes]]] = []

    @asynccontextmanager
    async def connect(self, channels: Sequence[str]) -> AsyncGenerator[Connection]:
        connection = (channels, asyncio.Queue[bytes]())
        self.connections.append(connection)
        try:
            yield Connection(self, connection[1])
        finally:
            self.connections.remove(connection)

    def deliver(self, channel: str, payload: bytes) -> None:
        for channels, queue in self.connections:
            if channel in channels:
                queue.put_nowait(payload)


class Connection:
    def __init__(self, carrier: Carrier, queue: asyncio.Queue[bytes]) -> None:
        self._carrier = carrier
        self._queue = queue

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        await self._carrier.connected.wait()
        self._carrier.sent += messages
        for channel, payload in messages if not self._carrier.swallows else ():
            self._carrier.deliver(channel, payload)

    async def receive(self) -> AsyncIterator[bytes]:
        while True:
            yield await self._queue.get()


class Two:
    """Two processes; the second follows r1."""

    def __init__(self) -> None:
        self.carrier = Carrier()
        self.one, self.two = (Process(HostWire(self.carrier, SECRET, encode, decode)) for _ in range(2))


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    both = Two()
    async with AsyncExitStack() as stack:
        for process in (both.one, both.two):
            assert isinstance(process.wire, HostWire)
            await stack.enter_async_context(background("wire", process.wire.run()))
        await settle([both.one, both.two])
        both.two.wire.follow("r1")
        await settle([both.one, both.two])
        both.carrier.sent.clear()
        yield both
        both.carrier.connected.set()


def to_one_host(carrier: Carrier) -> list[bytes]:
    return [payload for channel, payload in carrier.sent if not channel.endswith("_all")]


async def test_what_is_published_at_once_is_one_message(two: Two) -> None:
    for seq in range(1, 51):
        two.one.wire.publish([record(seq), record(None)])
    for _ in range(100):
        await two.two.take()
    assert len(to_one_host(two.carrier)) == 1
    assert two.one.wire.counts.published == two.two.wire.counts.received == 100


async def test_no_message_is_larger_than_the_server_takes(two: Two) -> None:
    for seq in range(1, 51):
        two.one.wire.publish([record(seq, text="你" * 1000)])
    for seq in range(1, 51):
        assert await two.two.take() == record(seq, text="你" * 1000)
    sizes = [len(payload) for payload in to_one_host(two.carrier)]
    assert max(sizes) <= Carrier.max_bytes
    assert len(sizes) == 25, "two records in each"


async def test_a_record_that_is_too_large_is_announced_by_its_number(two: Two) -> None:
    two.one.wire.publish([record(7, text="x" * 8000)])
    assert await two.two.take() == ("r1", 7)
    two.one.wire.publish([record(None, text="x" * 8000)])
    assert two.one.wire.counts.dropped == 1


async def test_what_cannot_be_sent_is_dropped_and_the_last_number_arrives(two: Two) -> None:
    two.carrier.connected.clear()
    two.one.wire.publish([record(None)])
    pieces = 2 * hosts.MAX_BACKLOG // 1000
    for seq in range(1, pieces):
        two.one.wire.publish([record(None, text="x" * 1000), record(seq, text="x" * 1000)])
    assert two.one.wire.counts.dropped > pieces // 2
    two.carrier.connected.set()
    arrivals = [await two.two.take()]
    while ("r1", pieces - 1) not in arrivals:
        arrivals.append(await two.two.take())
    await settle([two.one, two.two])
    delivered = two.two.wire.counts.received
    dropped = two.one.wire.counts.dropped
    assert delivered < pieces, "no more than the backlog"
    assert delivered + dropped < 2 * pieces


async def test_a_connection_on_which_nothing_arrives_is_replaced(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "ALIVE_SECONDS", 0.02)
    monkeypatch.setattr(hosts, "SILENCE_SECONDS", 0.2)
    first = list(two.carrier.connections)
    two.carrier.swallows = True
    await eventually(lambda: not any(process.wire.is_connected for process in (two.one, two.two)))
    two.carrier.swallows = False
    await eventually(lambda: two.one.wire.is_connected and two.two.wire.is_connected)
    assert not any(connection in two.carrier.connections for connection in first)


async def test_who_begins_to_follow_a_run_is_told_its_last_number(two: Two) -> None:
    two.one.wire.publish([record(1, "r2"), record(2, "r2")])
    two.two.wire.follow("r2")
    assert await two.two.take() == ("r2", 2)


async def test_a_signal_is_sent_once_at_a_time(two: Two) -> None:
    for _ in range(100):
        two.one.wire.signal(Signal.QUEUED)
    assert await two.two.take() == (Signal.QUEUED, "")
    await settle([two.one, two.two])
    assert not two.two.arrived


async def test_messages_that_are_not_of_this_installation_are_ignored_with_one_warning(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    channel = Messages(SECRET, "x", encode, decode).channel("all")
    foreign = Messages(b"other", "x", encode, decode)
    (signed,) = foreign.pack([line("signal", "queued", "")], 7_900)
    before = two.two.wire.counts.ignored
    hostile = [b"", b"\n", b"x" * 100_000, b"\xff\xfe\0", signed, signed.replace(b"queued", b"ended")]
    for payload in hostile:
        two.carrier.deliver(channel, payload)
    await settle([two.one, two.two])
    assert two.two.wire.counts.ignored - before == len(hostile)
    assert not two.two.arrived
    warnings = [item for item in caplog.records if item.levelno >= logging.WARNING and item.name == hosts.__name__]
    assert len(warnings) == 2, "one for each process"


@pytest.mark.parametrize(
    "item",
    [
        b"",
        b"{",
        b"1",
        b"[]",
        b"[[]]",
        b'["head","r1","2"]',
        b'["signal","unknown",""]',
        b'["record","r1",1,1.0,"Unknown"]\t[]',
        b'["record","r1",1,1.0,"NodeStarted"]\t{',
        b'["record"]',
        b'["of a newer version",1]',
    ],
)
async def test_an_item_that_cannot_be_read_leaves_the_others(two: Two, item: bytes) -> None:
    messages = Messages(SECRET, "somebody", encode, decode)
    (message,) = messages.pack([item, line("signal", "stopped", "r1")], 7_900)
    two.carrier.deliver(messages.channel("all"), message)
    assert await two.two.take() == (Signal.STOPPED, "r1")
    assert two.two.wire.counts.ignored == 1


def test_a_url_that_is_not_valid_is_reported_without_it() -> None:
    from headrace.adapters.wire import open_wire

    for url in ("redis://:hunter2@host:port", "postgresql://x:hunter2@h/db?hunter2=1"):
        with pytest.raises(HeadraceError) as raised:
            open_wire(url, SECRET, encode, decode)
        assert "hunter2" not in str(raised.value)
