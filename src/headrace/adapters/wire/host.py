"""One process, as a host among those that are connected to the same server.

Every host receives two channels: one that all receive, and one of its own. On the first it says every few seconds that
it is alive, which runs it follows, and signals. On its own it receives the records of the runs that it follows. So
records are sent to the hosts that need them, and nowhere if there are none.

What a host knows about the others is forgotten when its connection is lost, and asked for again afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from random import uniform
from typing import Any

import orjson

from headrace.adapters.wire.connection import Carrier, Connection
from headrace.adapters.wire.messages import ALIVE, HELLO, RESET, Decode, Encode, Messages, line
from headrace.background import back_off, cancel
from headrace.errors import HeadraceError
from headrace.ids import new_id
from headrace.kernel.events import Record, RunId
from headrace.ports import RecordReceiver, Signal, WireCounts

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.005  # between two messages to a host, at least
ALIVE_SECONDS = 2.0
SILENCE_SECONDS = 10.0  # after which a connection is considered lost on which not even this host's messages arrive
FORGET_SECONDS = 15.0  # without a message of another host
MAX_BACKLOG = 256 * 1024  # bytes of records that wait to be sent to a host; what is beyond is dropped
MAX_SIGNALS = 10_000  # that wait to be sent
_MAX_KEY = 255  # characters of a run's id, or of a signal's key
_HEADS = 10_000  # runs whose last number is kept for hosts that begin to follow them
_FIRST_PAUSE, _MAX_PAUSE = 0.1, 5.0  # seconds before the server is tried again


@dataclass(slots=True, eq=False)
class _Peer:
    """Another host: what it follows, and what waits to be sent to it."""

    channel: str
    heard_at: float
    follows: set[RunId] = field(default_factory=set[RunId])
    items: list[bytes] = field(default_factory=list[bytes])  # about the runs that are followed here
    records: list[bytes] = field(default_factory=list[bytes])
    heads: dict[RunId, int] = field(default_factory=dict[RunId, int])
    backlog: int = 0  # bytes of `records`

    def lines(self) -> Iterator[bytes]:
        return chain(self.items, (line("head", run, seq) for run, seq in self.heads.items()), self.records)

    def clear(self) -> None:
        self.items, self.records, self.heads, self.backlog = [], [], {}, 0


class HostWire:
    """See `ports.Wire`. `run` keeps it connected; until then, and while it is not, nothing is sent."""

    def __init__(self, carrier: Carrier, secret: bytes, encode: Encode, decode: Decode) -> None:
        self.receiver: RecordReceiver | None = None
        self.counts = WireCounts()
        self.is_connected = False
        self.host = new_id()[:12]
        self._carrier = carrier
        self._messages = Messages(secret, self.host, encode, decode)
        self._all = self._messages.channel("all")
        self._signal_receivers: defaultdict[Signal, list[Callable[[str], None]]] = defaultdict(list)
        self._followed_runs: dict[RunId, None] = {}
        self._changes: dict[RunId, str] = {}  # to `_followed` that the other hosts do not know yet
        self._signals: dict[tuple[Signal, str], None] = {}
        self._peers: dict[str, _Peer] = {}
        self._followers: dict[RunId, set[_Peer]] = {}
        self._heads: OrderedDict[RunId, int] = OrderedDict()
        self._joining = False
        self._something_to_send = asyncio.Event()
        self._heard_at = 0.0
        self._unheard_since: float | None = None  # when this host sent something to all, if nothing has arrived since
        self._alive_at = 0.0  # when this host last sent something to all
        self._lost_at: float | None = None  # the time since which there is no connection, once that is logged
        self._has_warned = False

    # ------------------------------------------------------------------------------------------------- what is sent

    def signal(self, signal: Signal, key: str = "") -> None:
        if not self._peers:
            return
        if len(self._signals) >= MAX_SIGNALS or not _is_key(key):
            self.counts.dropped += 1
            return
        self._signals[signal, key] = None
        self._something_to_send.set()

    def follow(self, run: RunId) -> None:
        if run not in self._followed_runs and _is_key(run):  # clients may ask for anything
            self._followed_runs[run] = None
            self._change(run, "follow")

    def unfollow(self, run: RunId) -> None:
        if run in self._followed_runs:
            del self._followed_runs[run]
            self._change(run, "unfollow")

    def _change(self, run: RunId, change: str) -> None:
        if self._changes.pop(run, change) == change:  # else the two cancel each other
            self._changes[run] = change
        self._something_to_send.set()

    def publish(self, records: Sequence[Record]) -> None:
        if not self._peers:
            return
        for record in records:
            if record.seq is not None:
                self._keep_head(record.run, record.seq)
            if followers := self._followers.get(record.run):
                item = self._messages.record_line(record)
                for peer in followers:
                    self._send_record(peer, record, item)
                self._something_to_send.set()

    def _keep_head(self, run: RunId, seq: int) -> None:
        self._heads[run] = seq
        self._heads.move_to_end(run)
        if len(self._heads) > _HEADS:
            self._heads.popitem(last=False)

    def _send_record(self, peer: _Peer, record: Record, item: bytes) -> None:
        if peer.backlog + len(item) <= MAX_BACKLOG and len(item) + self._messages.overhead <= self._carrier.max_bytes:
            peer.records.append(item)
            peer.backlog += len(item)
        elif record.seq is not None:
            peer.heads[record.run] = record.seq
        else:
            self.counts.dropped += 1

    # ---------------------------------------------------------------------------------------------- the connection

    async def run(self) -> None:
        """Keeps the connection until cancelled."""
        failures = 0
        while True:
            try:
                async with self._carrier.connect((self._all, self._messages.channel(self.host))) as connection:
                    await self._use(connection)
            except OSError as error:
                failures = 1 if self.is_connected else failures + 1
                self._on_lost(error)
            await asyncio.sleep(back_off(failures, _FIRST_PAUSE, _MAX_PAUSE) * uniform(0.8, 1.2))

    async def _use(self, connection: Connection) -> None:
        self._joining = True
        self._unheard_since = None
        tasks = [asyncio.create_task(self._send(connection)), asyncio.create_task(self._receive(connection))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await cancel(*tasks)

    def _on_lost(self, error: OSError) -> None:
        if self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()
            name = self._carrier.name
            logger.warning("the wire %s is down; runs of other processes are read each second: %s", name, error)
        self.is_connected = False
        self.counts.dropped += sum(len(peer.records) for peer in self._peers.values())
        self._peers.clear()
        self._followers.clear()
        self._signals.clear()

    def _on_connected(self) -> None:
        self.is_connected = True
        if self._lost_at is not None:
            seconds = asyncio.get_running_loop().time() - self._lost_at
            logger.warning("the wire %s is back, after %.0f s", self._carrier.name, seconds)
            self._lost_at = None

    async def _send(self, connection: Connection) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._something_to_send.clear()
            sent_at = clock()
            if messages := list(self._next_messages(sent_at)):
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await connection.send(messages)
                except TimeoutError:
                    raise ConnectionError(f"a message could not be sent within {SILENCE_SECONDS:g} s") from None
            if self._unheard_since is not None and clock() - self._unheard_since > SILENCE_SECONDS:
                raise ConnectionError(f"nothing has arrived for {SILENCE_SECONDS:g} s, not even what was sent here")
            try:
                async with asyncio.timeout_at(self._alive_at + ALIVE_SECONDS):
                    await self._something_to_send.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(max(0.0, sent_at + FLUSH_SECONDS - clock()))

    def _next_messages(self, now: float) -> Iterator[tuple[str, bytes]]:
        """All that waits to be sent; it does not wait any more."""
        for name in [name for name, peer in self._peers.items() if now - peer.heard_at > FORGET_SECONDS]:
            self._forget(name)
        for peer in self._peers.values():
            lines = list(peer.lines())
            self.counts.published += len(peer.records)
            peer.clear()
            yield from ((peer.channel, message) for message in self._pack(lines))
        lines = self._lines_to_all()
        if lines or now >= self._alive_at + ALIVE_SECONDS:
            self._alive_at = now
            self._unheard_since = self._unheard_since or now
            yield from ((self._all, message) for message in self._pack(lines or [ALIVE]))

    def _pack(self, lines: Sequence[bytes]) -> Iterator[bytes]:
        return self._messages.pack(lines, self._carrier.max_bytes)

    def _lines_to_all(self) -> list[bytes]:
        if self._joining:
            self._joining = False
            self._changes.clear()
            lines = [HELLO, *self._all_followed()]
        else:
            lines = [line(change, run) for run, change in self._changes.items()]
            self._changes.clear()
        lines += [line("signal", signal, key) for signal, key in self._signals]
        self._signals.clear()
        return lines

    def _all_followed(self) -> Iterator[bytes]:
        return chain((RESET,), (line("follow", run) for run in self._followed_runs))

    # --------------------------------------------------------------------------------------------- what is received

    async def _receive(self, connection: Connection) -> None:
        async for payload in connection.receive():
            try:
                sender, items = self._messages.open(payload)
            except (ValueError, TypeError) as error:
                self._ignore(error)
                continue
            self._heard_at = asyncio.get_running_loop().time()
            self._unheard_since = None
            if sender != self.host:
                self._on_message(self._peer(sender, items), items)
            elif not self.is_connected:  # what is sent does arrive
                self._on_connected()

    def _peer(self, name: str, items: Sequence[bytes]) -> _Peer:
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = _Peer(self._messages.channel(name), self._heard_at)
            if RESET not in items:
                peer.items.append(HELLO)
                self._something_to_send.set()
        peer.heard_at = self._heard_at
        return peer

    def _forget(self, name: str) -> None:
        peer = self._peers.pop(name)
        self.counts.dropped += len(peer.records)
        for run in peer.follows:
            self._remove_follower(peer, run)

    def _remove_follower(self, peer: _Peer, run: RunId) -> None:
        if followers := self._followers.get(run):
            followers.discard(peer)
            if not followers:
                del self._followers[run]

    def _on_message(self, peer: _Peer, items: Sequence[bytes]) -> None:
        records: list[Record] = []
        for item in items:
            content, _, body = item.partition(b"\t")
            try:
                match orjson.loads(content):
                    case ["record", *fields]:
                        records.append(self._messages.record(fields, body))
                    case [str(kind), *fields]:
                        self._on_item(peer, kind, fields)
                    case other:
                        raise ValueError(f"{other!r} is not an item of a message")
            except (HeadraceError, ValueError, TypeError, KeyError) as error:  # of a newer version, for instance
                self._ignore(error)
        if records and self.receiver is not None:
            self.counts.received += len(records)
            self.receiver.on_records(records)

    def _on_item(self, peer: _Peer, kind: str, fields: list[Any]) -> None:
        match kind, fields:
            case "follow", [str(run)]:
                peer.follows.add(run)
                self._followers.setdefault(run, set()).add(peer)
                if (head := self._heads.get(run)) is not None:
                    peer.heads[run] = head
                    self._something_to_send.set()
            case "unfollow", [str(run)]:
                peer.follows.discard(run)
                self._remove_follower(peer, run)
            case "head", [str(run), int(seq)]:
                if self.receiver is not None:
                    self.receiver.on_head(run, seq)
            case "signal", [str(name), str(key)]:
                for receive in self._signal_receivers[Signal(name)]:
                    receive(key)
            case "hello", []:
                peer.items += self._all_followed()
                self._something_to_send.set()
            case "reset", []:
                for run in peer.follows:
                    self._remove_follower(peer, run)
                peer.follows.clear()
            case "alive", []:
                pass
            case _:
                raise ValueError(f"{kind!r} is not an item of a message")

    def on_signal(self, signal: Signal, receive: Callable[[str], None]) -> None:
        self._signal_receivers[signal].append(receive)

    def _ignore(self, error: Exception) -> None:
        self.counts.ignored += 1
        level = logging.DEBUG if self._has_warned else logging.WARNING
        self._has_warned = True
        logger.log(level, "a message on the wire %s is ignored: %s", self._carrier.name, error)


def _is_key(text: str) -> bool:
    return len(text) <= _MAX_KEY and text.isascii()
