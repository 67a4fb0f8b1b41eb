"""What a wire needs of the server that carries its messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from urllib.parse import urlsplit


class Connection(Protocol):
    """A connection to the server. OSError where it fails."""

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Sends messages, each to a channel."""
        ...

    def receive(self) -> AsyncIterator[bytes]:
        """The messages of the channels, as they arrive, also those of this process."""
        ...


class Carrier(Protocol):
    """A server that carries messages."""

    name: str  # its URL without what is secret
    max_bytes: int  # of a message

    def connect(self, channels: Sequence[str]) -> AbstractAsyncContextManager[Connection]:
        """A connection that receives the messages of these channels. OSError where there is none."""
        ...


def without_secrets(url: str) -> str:
    """A URL for messages and logs: without user, password and parameters."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
