"""One process on a wire: publishes text at a rate, or measures how late it arrives.

`publish URL SECRET RATE SECONDS RUNS` or `follow URL SECRET RUNS`; the clock is the machine's. Both print their
results as JSON when they end: a publisher by itself, a follower at the end of its input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence

from headrace.adapters.wire import HostWire, open_wire
from headrace.kernel.events import Delta, Record, RunId
from headrace.stores.encoding import decode, encode

TOKEN = " tokens"


class Latencies:
    def __init__(self) -> None:
        self.milliseconds: list[float] = []

    def on_records(self, records: Sequence[Record]) -> None:
        now = time.monotonic()
        self.milliseconds += [1e3 * (now - record.at) for record in records]

    def on_head(self, run: RunId, seq: int) -> None:
        pass


async def publish(wire: HostWire, rate: int, seconds: float, runs: int) -> None:
    count = 0
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        while count < rate * (now - began):
            at = time.monotonic()
            wire.publish([Record(f"run{count % runs}", None, at, Delta("llm", "text", 7 * count, TOKEN))])
            count += 1
        await asyncio.sleep(0.0005)


async def main(role: str, url: str, secret: str, *numbers: str) -> None:
    wire = open_wire(url, bytes.fromhex(secret), encode, decode)
    wire.receiver = latencies = Latencies()
    connection = asyncio.create_task(wire.run())
    while not wire.is_connected:  # noqa: ASYNC110 - it is only at the start
        await asyncio.sleep(0.01)
    if role == "follow":
        for number in range(int(numbers[0])):
            wire.follow(f"run{number}")
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    spent = time.process_time()
    if role == "publish":
        rate, seconds, runs = numbers
        await publish(wire, int(rate), float(seconds), int(runs))
    else:
        await asyncio.to_thread(sys.stdin.readline)
    await asyncio.sleep(0.2)
    spent = time.process_time() - spent
    connection.cancel()
    counts = {"published": wire.counts.published, "dropped": wire.counts.dropped}
    print(json.dumps({"latencies": latencies.milliseconds, "spent": spent, **counts}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
