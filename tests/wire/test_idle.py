"""What a connection costs on which nothing arrives."""

from __future__ import annotations

import asyncio

from headrace.adapters.wire import _carrier_of as carrier_of
from tests.wire.conftest import CarrierServer

_SECONDS = 1.0  # psycopg's own wait, for one, wakes up every 0.1 s


class Counting(asyncio.SelectorEventLoop):
    """Counts how often it has something to do."""

    turns = 0

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]


def test_a_process_sleeps_while_nothing_arrives(server: CarrierServer) -> None:
    async def turns_while_idle() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Counting)
        async with carrier_of(server.url).connect(("channel",)) as connection:
            messages = connection.receive()
            receiving = asyncio.ensure_future(anext(messages))
            done, _ = await asyncio.wait((receiving,), timeout=0.1)
            assert not done
            before = loop.turns
            await asyncio.wait((receiving,), timeout=_SECONDS)
            counted = loop.turns - before
            await connection.send([("channel", b"something")])
            async with asyncio.timeout(60):
                assert await receiving == b"something"
            return counted

    with asyncio.Runner(loop_factory=Counting) as runner:
        assert runner.run(turns_while_idle()) < 5
