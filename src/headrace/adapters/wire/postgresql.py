"""A wire by LISTEN and NOTIFY of PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, Error
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from headrace.adapters.wire.connection import without_secrets

_SCHEME = re.compile(r"^postgres(ql)?(\+psycopg)?(?=://)")
_POOLED = re.compile(r"(?<=[?&])pgbouncer=[^&]*&?")  # a parameter that only the database's adapter knows
# Set at the start, because a pooler would leave a SET to the next client. A notification need not wait for the disk, or
# for a standby; and a process that is paused would hold up the queue of all notifications.
_OPTIONS = "-c synchronous_commit=off -c tcp_user_timeout=30000"
_SEND = "SELECT pg_notify(channel, message) FROM unnest(%s::text[], %s::text[]) AS messages (channel, message)"


class PostgresqlCarrier:
    """The server of a database's URL. It has to be reached directly: a pooler that shares connections between
    transactions does not pass notifications on."""

    max_bytes = 7_900  # the server takes fewer than 8,000

    def __init__(self, url: str) -> None:
        self._url = _POOLED.sub("", _SCHEME.sub("postgresql", url))
        self.name = without_secrets(self._url)
        try:
            conninfo_to_dict(self._url)
        except Error as error:
            raise ValueError(str(error)) from error

    @asynccontextmanager
    async def connect(self, channels: Sequence[str]) -> AsyncGenerator[PostgresqlConnection]:
        try:
            async with await self._open() as listening, await self._open() as sending:
                for channel in channels:
                    await listening.execute(SQL("LISTEN {}").format(Identifier(channel)))
                yield PostgresqlConnection(listening, sending)
        except Error as error:
            raise ConnectionError(" ".join(str(error).split())) from error

    async def _open(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=10, application_name="headrace wire", options=_OPTIONS
        )


class PostgresqlConnection:
    """Two connections: one that waits for notifications cannot be used for anything else."""

    def __init__(self, listening: AsyncConnection[Any], sending: AsyncConnection[Any]) -> None:
        self._listening = listening
        self._sending = sending

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        channels, payloads = zip(*messages, strict=True)
        try:
            await self._sending.execute(_SEND, (list(channels), [payload.decode() for payload in payloads]))
        except Error as error:
            raise ConnectionError(" ".join(str(error).split())) from error

    async def receive(self) -> AsyncIterator[bytes]:
        listening = self._listening.pgconn
        try:
            while True:
                listening.consume_input()
                while (notification := listening.notifies()) is not None:
                    yield notification.extra
                await _readable(listening.socket)
        except Error as error:
            raise ConnectionError(" ".join(str(error).split())) from error


async def _readable(descriptor: int) -> None:
    """Waits until there is something to read. psycopg would wake up ten times a second meanwhile, which was a third of
    what an idle process costs."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)
