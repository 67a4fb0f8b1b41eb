"""A process that follows a run: `python -m tests.wire.follower URL SECRET` says so when its wire is connected."""

from __future__ import annotations

import asyncio
import sys

from headrace.adapters.wire import open_wire
from headrace.ports import Signal
from headrace.stores.encoding import decode, encode

FOLLOWED = "followed by another process"


async def main(url: str, secret: str) -> None:
    wire = open_wire(url, bytes.fromhex(secret), encode, decode)
    wire.follow("r1")
    wire.on_signal(Signal.QUEUED, lambda _: wire.signal(Signal.ENDED, FOLLOWED))
    await wire.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
