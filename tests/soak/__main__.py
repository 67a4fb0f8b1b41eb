"""The long form: rounds of many runs in flight, in each of which everything fails, in an order drawn from a seed.

Prints what each round did, and ends with an error at the first run that is not as it must be, or whose worker was dead
for too long.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

from headrace.stores.sql.leases import LEASE_SECONDS
from tests import forking
from tests.background import serving
from tests.server.gated import Peer
from tests.server.test_one_database import Hook
from tests.soak.fleet import SERVERS, Fleet, Worker, fleet, serving_all
from tests.soak.load import FLOW_WITH_TEXT, Load
from tests.soak.recovery import Loss, waits

RECOVERED_SECONDS = LEASE_SECONDS + 2  # after which others continue all runs of a dead worker, on a machine with time
_PATIENCE = 500.0  # seconds for which runs wait for the gate: longer than all faults of a round take
_LOGGED = 50  # errors of the processes that are printed after a failure


class Round:
    """Faults while all runs wait for the gate, then others while they end."""

    def __init__(self, processes: Fleet, load: Load, chance: random.Random, within: float) -> None:
        self._processes = processes
        self._within = within
        self._load = load
        self._chance = chance
        self._paused: list[Worker] = []
        self._losses: list[Loss] = []

    async def run(self) -> str:
        await self._load.start()
        waiting = [self._kill_worker, self._pause_worker, self._restart_api, *[self._cut] * 3, *[self._stall] * 3]
        waiting += [self._processes.restart_wire, self._restart_postgresql]
        if self._processes.servers.temporal is not None:
            waiting.append(self._processes.restart_temporal)
        self._chance.shuffle(waiting)
        for fault in waiting:
            print(f"  {fault.__name__.strip('_')}", flush=True)
            await fault()
        await self._processes.restart_postgresql(self._open_gate)
        await self._restart_api()
        await self._cut()
        for worker in self._paused:
            self._processes.resume_worker(worker)
        records = await self._load.check(self._processes.url)
        times = waits(self._losses, records, self._processes.outages)
        recovered = "; ".join(
            f"{len(seconds)} of a worker that was {loss.how} continued after {seconds[0]:.1f} to {seconds[-1]:.1f} s"
            for loss, seconds in zip(self._losses, times, strict=True)
            if seconds
        )
        assert max((seconds[-1] for seconds in times if seconds), default=0.0) <= self._within, recovered
        resumed = sum(stream.resumed for stream in self._load.streams.values())
        return (
            f"{len(records)} runs ended once; {recovered}; streams were resumed {resumed} times; "
            f"{self._load.repeated} callbacks arrived twice"
        )

    async def _open_gate(self) -> None:
        self._load.peer.gate.set()

    def _running(self) -> list[Worker]:
        return [worker for worker in self._processes.workers if worker not in self._paused]

    async def _kill_worker(self) -> None:
        self._losses.append(await self._processes.kill_worker(self._chance.choice(self._running())))

    async def _pause_worker(self) -> None:
        worker = self._chance.choice(self._running())
        self._losses.append(await self._processes.pause_worker(worker))
        self._paused.append(worker)

    async def _restart_api(self) -> None:
        await self._processes.restart_api(self._chance.choice(self._processes.apis))

    async def _restart_postgresql(self) -> None:
        await self._processes.restart_postgresql(lambda: asyncio.sleep(self._chance.random()))

    async def _cut(self) -> None:
        hosts = [item.host for item in (*self._running(), *self._processes.apis)]
        await self._processes.cut(self._chance.choice(self._chance.choice(hosts).proxies))

    async def _stall(self) -> None:
        hosts = [item.host for item in (*self._running(), *self._processes.apis)]
        await self._processes.stall(self._chance.choice(self._chance.choice(hosts).proxies))


async def main(runs: int, rounds: int, seed: int, by: str, within: float) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)  # so that its servers end with it
    loop.set_default_executor(ThreadPoolExecutor(runs + 16))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-soak-")))
        stack.callback(forking.close)
        servers = serving_all(stack, by)
        peer, hook = Peer(_PATIENCE), Hook()
        stack.enter_context(serving(peer))
        stack.enter_context(serving(hook))
        flow = folder / "flow.yml"
        flow.write_text(FLOW_WITH_TEXT.format(url=f"http://{peer.address}"))
        environ = {"HEADRACE_EGRESS_ALLOW": f"{peer.address},{hook.address}", "HEADRACE_DEMO_MODEL": "true"}
        names = (f"run{number}" for number in count())
        async with fleet(folder, servers, flow, environ) as processes:
            for number in range(rounds):
                print(f"round {number + 1}, seed {seed + number}, {by}", flush=True)
                apis = [api.serve for api in processes.apis]
                with closing(Load(runs, apis, peer, hook, names)) as load:
                    try:
                        report = await Round(processes, load, random.Random(seed + number), within).run()
                    except Exception as error:
                        print(f"  failed: {error}", *processes.errors()[-_LOGGED:], sep="\n  ", flush=True)
                        raise
                    print(f"  {report}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--runs", type=int, default=500, help="in flight at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--by", choices=SERVERS, default=SERVERS[0], help="what brings news, or runs, to processes")
    parser.add_argument("--within", type=float, default=RECOVERED_SECONDS, help="seconds for the runs of a dead worker")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(main(options.runs, options.rounds, options.seed, options.by, options.within))
