"""The wire between hosts: by PostgreSQL's notifications, or by Redis or Valkey."""

from __future__ import annotations

from headrace.adapters.wire.host import HostWire
from headrace.adapters.wire.messages import Decode, Encode
from headrace.errors import HeadraceError

__all__ = ["HostWire", "open_wire"]


def open_wire(url: str, secret: bytes, encode: Encode, decode: Decode) -> HostWire:
    """The wire of a URL (postgresql://, redis://, rediss://, valkey://, valkeys://, unix://), to be connected by its
    `run`. `secret` is the installation's; `encode` and `decode` convert records as stores do. HeadraceError if the URL
    is not valid, or a package is missing."""
    extra = "postgresql" if url.startswith("postgres") else "redis"
    try:
        if extra == "postgresql":
            from headrace.adapters.wire.postgresql import PostgresqlCarrier as Carrier
        else:
            from headrace.adapters.wire.redis import RedisCarrier as Carrier
    except ImportError as error:
        raise HeadraceError(
            f"The wire needs a package that is not installed ({error}): pip install 'headrace[{extra}]'"
        ) from error
    try:
        return HostWire(Carrier(url), secret, encode, decode)
    except ValueError:  # which may contain the password
        raise HeadraceError("The URL of the wire is not valid.") from None
