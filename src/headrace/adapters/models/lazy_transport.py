"""A `Transport` that is made when it is first needed, because aiohttp takes a tenth of a second to load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.adapters.models.transport import Transport


class LazyTransport:
    """The parameters are those of `Transport`."""

    def __init__(self, environ: Mapping[str, str], connect: float, idle: float) -> None:
        self._environ = environ
        self._connect = connect
        self._idle = idle
        self._transport: Transport | None = None

    def open(self) -> Transport:
        if self._transport is None:
            from headrace.adapters.models.transport import Transport

            self._transport = Transport(self._environ, self._connect, self._idle)
        return self._transport

    async def aclose(self) -> None:
        """Closes the connections, if there are any."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()
