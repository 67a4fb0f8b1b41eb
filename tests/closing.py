"""How a peer closes a connection."""

from __future__ import annotations

import asyncio
import contextlib


async def read_to_close(reader: asyncio.StreamReader) -> bytes:
    """All that arrives until the connection is closed, or reset, as it is where the client goes on sending."""
    received = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                received += piece
    return received
