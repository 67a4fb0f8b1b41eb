"""The wire between hosts: by PostgreSQL's notifications, or by Redis or Valkey."""

from __future__ import annotations

from headrace.adapters.wire.connection import Carrier
from headrace.adapters.wire.host import HostWire
from headrace.adapters.wire.messages import Decode, Encode
from headrace.errors import HeadraceError
from headrace.ids import new_id

__all__ = ["HostWire", "open_wire", "probe"]


def open_wire(url: str, secret: bytes, encode: Encode, decode: Decode) -> HostWire:
    """The wire of a URL (postgresql://, redis://, rediss://, valkey://, valkeys://, unix://), to be connected by its
    `run`. `secret` is the installation's; `encode` and `decode` convert records as stores do. HeadraceError if the URL
    is not valid, or a package is missing."""
    return HostWire(_carrier_of(url), secret, encode, decode)


async def probe(url: str) -> str:
    """Sends a message to itself, and returns the server's name once it has arrived. OSError where the server cannot be
    reached; HeadraceError as `open_wire`. A pooler may swallow the message: the caller limits the time."""
    carrier = _carrier_of(url)
    channel, message = f"headrace-probe-{new_id()}", new_id().encode()
    async with carrier.connect((channel,)) as connection:
        await connection.send([(channel, message)])
        async for payload in connection.receive():
            if payload == message:
                return carrier.name
    raise ConnectionError("the connection was closed")


def _carrier_of(url: str) -> Carrier:
    extra = "postgresql" if url.startswith("postgres") else "redis"
    try:
        if extra == "postgresql":
            from headrace.adapters.wire.postgresql import PostgresqlCarrier as carrier
        else:
            from headrace.adapters.wire.redis import RedisCarrier as carrier
    except ImportError as error:
        raise HeadraceError(
            f"The wire needs a package that is not installed ({error}): pip install 'headrace[{extra}]'"
        ) from error
    try:
        return carrier(url)
    except ValueError:  # which may contain the password
        raise HeadraceError("The URL of the wire is not valid.") from None
