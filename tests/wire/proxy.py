"""A proxy between a process and a server's socket, which a test cuts, or stalls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path


class Proxy:
    """Forwards connections to a port of this machine to a socket, or to another port."""

    def __init__(self, to: Path | int) -> None:
        self.connections = 0  # since it was started
        self.port = 0
        self._to = to
        self._tasks: set[asyncio.Task[None]] = set()
        self.handlers: set[asyncio.Task[None]] = set()
        self._accepts = True
        self._flows = asyncio.Event()
        self._flows.set()
        self.has_held = asyncio.Event()  # data has arrived since `stall`

    def cut(self) -> None:
        """Closes all connections, and new ones at once, until `mend`."""
        self._accepts = False
        for task in self._tasks:
            task.cancel()

    def stall(self) -> None:
        """Keeps the connections, and what arrives, until `mend`, as a network does that drops packets."""
        self.has_held.clear()
        self._flows.clear()

    def mend(self) -> None:
        self._accepts = True
        self._flows.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.create_task(self._handle(reader, writer))
        self.handlers.add(handler)
        handler.add_done_callback(self.handlers.discard)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._accepts:
            writer.close()
            return
        try:
            if isinstance(self._to, int):
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to)
            else:
                server_reader, server_writer = await asyncio.open_unix_connection(self._to)
        except OSError:  # the server is down
            writer.close()
            return
        self.connections += 1
        tasks = [
            asyncio.create_task(self._forward(reader, server_writer)),
            asyncio.create_task(self._forward(server_reader, writer)),
        ]
        self._tasks.update(tasks)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.difference_update(tasks)
        for end in (server_writer, writer):
            end.close()
            await asyncio.gather(end.wait_closed(), return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self._flows.is_set():
                self.has_held.set()
                await self._flows.wait()
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxy(to: Path | int) -> AsyncGenerator[Proxy]:
    forwarding = Proxy(to)
    server = await asyncio.start_server(forwarding.accept, "127.0.0.1", 0)
    forwarding.port = server.sockets[0].getsockname()[1]
    try:
        async with server:
            yield forwarding
    finally:
        forwarding.cut()
        if forwarding.handlers:
            await asyncio.wait(forwarding.handlers)
