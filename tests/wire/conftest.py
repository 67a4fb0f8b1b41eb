from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.postgresql import Server
from tests.valkey import ValkeyServer


@dataclass(frozen=True)
class CarrierServer:
    """A server that carries messages; `proxied` is its URL at a port of this machine."""

    url: str
    socket: Path
    proxied: Callable[[int], str]
    start: Callable[[], None]
    stop: Callable[[], None]


@pytest.fixture(params=["postgresql", "valkey"])
def server(request: pytest.FixtureRequest) -> CarrierServer:
    if request.param == "postgresql":
        postgresql: Server = request.getfixturevalue("postgresql_server")
        return CarrierServer(
            postgresql.url(),
            postgresql.socket,
            lambda port: f"postgresql://headrace@127.0.0.1:{port}/postgres",
            postgresql.start,
            postgresql.stop,
        )
    valkey: ValkeyServer = request.getfixturevalue("valkey_server")
    return CarrierServer(valkey.url, valkey.socket, lambda port: f"redis://127.0.0.1:{port}", valkey.start, valkey.stop)
